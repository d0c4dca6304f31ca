import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { formatRelative, formatTime } from '../i18n/format';

interface TimeProps {
  value: string | null | undefined;
  /** `relative` says how long ago; the exact time is in the title. */
  form?: 'full' | 'short' | 'precise' | 'relative';
}

const TICK_MS = 15_000;

export function Time({ value, form = 'full' }: TimeProps) {
  const { i18n } = useTranslation();
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (form !== 'relative') return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), TICK_MS);
    return () => clearInterval(timer);
  }, [form, value]);
  if (!value) return <span className="text-faint">–</span>;
  const language = i18n.language;
  return (
    <time dateTime={value} title={value} className="whitespace-nowrap tabular-nums">
      {form === 'relative' ? formatRelative(value, now, language) : formatTime(value, form, language)}
    </time>
  );
}
