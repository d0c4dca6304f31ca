// Numbers and times by Intl, in the console's language and the browser's time zone.

type TimeForm = 'full' | 'short' | 'precise';

const FORMS: Record<TimeForm, Intl.DateTimeFormatOptions> = {
  full: { year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' },
  short: { month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' },
  precise: {
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    fractionalSecondDigits: 3,
    hourCycle: 'h23',
  },
};

const formats = new Map<string, Intl.DateTimeFormat>();

function timeFormat(form: TimeForm, language: string): Intl.DateTimeFormat {
  const key = `${form} ${language}`;
  let format = formats.get(key);
  if (!format) {
    format = new Intl.DateTimeFormat(language, FORMS[form]);
    formats.set(key, format);
  }
  return format;
}

export function formatTime(value: string | number, form: TimeForm, language: string): string {
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? String(value) : timeFormat(form, language).format(date);
}

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
];

export function formatRelative(value: string, now: number, language: string): string {
  const seconds = (new Date(value).getTime() - now) / 1000;
  const format = new Intl.RelativeTimeFormat(language, { numeric: 'auto', style: 'short' });
  for (const [unit, size] of STEPS) {
    if (Math.abs(seconds) >= size) return format.format(Math.trunc(seconds / size), unit);
  }
  // Clocks of hosts and browser differ by a little: the future is "now" too.
  return format.format(Math.min(0, Math.trunc(seconds / 5) * 5), 'second');
}

export function formatNumber(value: number, language: string): string {
  return new Intl.NumberFormat(language).format(value);
}

/** `12.3k`, `1.2万`: for figures in tight places. */
export function formatCompact(value: number, language: string): string {
  return new Intl.NumberFormat(language, { notation: 'compact', maximumFractionDigits: 1 }).format(value);
}
