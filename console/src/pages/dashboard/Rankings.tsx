import { Link } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import type { Dashboard, Severity } from '../../api/types';
import { SeverityBadge } from '../../design/Severity';
import { EmptyState } from '../../design/States';
import { formatNumber } from '../../i18n/format';

const BAR_COLOURS: Record<Severity, string> = {
  critical: 'bg-critical',
  high: 'bg-high',
  medium: 'bg-medium',
  low: 'bg-low',
  informational: 'bg-informational',
};

export function SeverityBars({ counts }: { counts: Dashboard['alerts_by_severity'] }) {
  const most = Math.max(1, ...counts.map((one) => one.open));
  return (
    <ul className="flex flex-col gap-1">
      {counts.map(({ severity, open }) => (
        <li key={severity}>
          <Link
            to="/alerts"
            search={{ status: 'open', severity }}
            className="grid grid-cols-[7rem_1fr_auto] items-center gap-3 rounded px-1.5 py-1.5 hover:bg-sunken"
          >
            <SeverityBadge severity={severity} />
            <Bar share={open / most} colour={BAR_COLOURS[severity]} />
            <Count value={open} />
          </Link>
        </li>
      ))}
    </ul>
  );
}

export function TopRules({ rules }: { rules: Dashboard['top_rules'] }) {
  const { t } = useTranslation();
  if (rules.length === 0) return <EmptyState title={t('dashboard.noMatches')} />;
  const most = Math.max(1, ...rules.map((rule) => rule.count));
  return (
    <ul className="flex flex-col gap-1">
      {rules.slice(0, 6).map((rule) => (
        <li key={rule.rule_id}>
          <Link to="/alerts" search={{ rule: rule.rule_id }} className="block rounded px-1.5 py-1 hover:bg-sunken">
            <span className="flex items-baseline justify-between gap-3">
              <span className="truncate">{rule.name}</span>
              <Count value={rule.count} />
            </span>
            <Bar share={rule.count / most} colour="bg-accent" />
          </Link>
        </li>
      ))}
    </ul>
  );
}

function Bar({ share, colour }: { share: number; colour: string }): ReactNode {
  return (
    <span aria-hidden="true" className="block h-1.5 w-full overflow-hidden rounded-full bg-sunken">
      <span className={`block h-full rounded-full ${colour}`} style={{ width: `${Math.max(share > 0 ? 2 : 0, share * 100)}%` }} />
    </span>
  );
}

function Count({ value }: { value: number }) {
  const { i18n } = useTranslation();
  return <span className="text-right font-medium tabular-nums">{formatNumber(value, i18n.language)}</span>;
}
