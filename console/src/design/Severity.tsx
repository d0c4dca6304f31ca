import { useTranslation } from 'react-i18next';

import type { Severity } from '../api/types';
import { cx } from './cx';

const COLOURS: Record<Severity, string> = {
  critical: 'text-critical',
  high: 'text-high',
  medium: 'text-medium',
  low: 'text-low',
  informational: 'text-informational',
};

/** Each severity has a shape of its own, so that colour is never the only sign. */
const SHAPES: Record<Severity, React.ReactNode> = {
  critical: (
    <>
      <path d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" fill="currentColor" />
      <path d="M8 4.5v4M8 10.6v1" stroke="var(--surface)" strokeWidth="1.8" strokeLinecap="round" />
    </>
  ),
  high: <path d="M8 1.5 15.2 14H.8z" fill="currentColor" />,
  medium: <path d="M8 .8 15.2 8 8 15.2.8 8z" fill="currentColor" />,
  low: <circle cx="8" cy="8" r="5.5" fill="currentColor" />,
  informational: <circle cx="8" cy="8" r="5" fill="none" stroke="currentColor" strokeWidth="2" />,
};

export function SeverityIcon({ severity, className }: { severity: Severity; className?: string }) {
  return (
    <svg viewBox="0 0 16 16" aria-hidden="true" className={cx('size-3.5 shrink-0', COLOURS[severity], className)}>
      {SHAPES[severity]}
    </svg>
  );
}

export function SeverityBadge({ severity }: { severity: Severity }) {
  const { t } = useTranslation();
  return (
    <span className={cx('inline-flex items-center gap-1.5 align-middle text-xs font-medium whitespace-nowrap', COLOURS[severity])}>
      <SeverityIcon severity={severity} />
      {t(`severity.${severity}`)}
    </span>
  );
}
