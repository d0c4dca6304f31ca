// The span of time of a search, as it stands in the address bar: a name such as
// `1h` that means "until now", or two fixed times.

export const RANGES = ['15m', '1h', '6h', '24h', '7d', '30d'] as const;
export type RangeName = (typeof RANGES)[number];
export const DEFAULT_RANGE: RangeName = '1h';

const MINUTE_MS = 60_000;
const LENGTHS_MS: Record<RangeName, number> = {
  '15m': 15 * MINUTE_MS,
  '1h': 60 * MINUTE_MS,
  '6h': 360 * MINUTE_MS,
  '24h': 1_440 * MINUTE_MS,
  '7d': 10_080 * MINUTE_MS,
  '30d': 43_200 * MINUTE_MS,
};

export interface RangeSearch {
  range?: string;
  from?: string;
  to?: string;
}

export interface Span {
  from: string;
  /** Absent: until now. */
  to?: string;
}

/** Which named range a search means; undefined for fixed times. */
export function rangeName(search: RangeSearch): RangeName | undefined {
  if (search.from || search.to) return undefined;
  return RANGES.find((name) => name === search.range) ?? DEFAULT_RANGE;
}

export function spanOf(search: RangeSearch, now: number): Span {
  const name = rangeName(search);
  if (name) return { from: new Date(now - LENGTHS_MS[name]).toISOString() };
  const to = validTime(search.to);
  const from = validTime(search.from) ?? new Date((to ? Date.parse(to) : now) - LENGTHS_MS[DEFAULT_RANGE]).toISOString();
  return to ? { from, to } : { from };
}

function validTime(text: string | undefined): string | undefined {
  const milliseconds = Date.parse(text ?? '');
  return Number.isNaN(milliseconds) ? undefined : new Date(milliseconds).toISOString();
}

/** For `<input type="datetime-local">`, in local time to the second. */
export function toLocalInput(time: string | undefined): string {
  if (!time) return '';
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return '';
  return new Date(date.getTime() - date.getTimezoneOffset() * MINUTE_MS).toISOString().slice(0, 19);
}
