import { Link } from '@tanstack/react-router';
import { ShieldCheck } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import type { Alert } from '../../api/types';
import { Card } from '../../design/Card';
import { RawText } from '../../design/RawText';
import { SeverityIcon } from '../../design/Severity';
import { EmptyState } from '../../design/States';
import { Time } from '../../design/Time';
import { AlertStatusBadge, ResponseBadge } from '../alerts/badges';

interface RecentAlertsProps {
  alerts: Alert[];
  /** All alerts are of this host. */
  host?: string;
  className?: string;
}

export function RecentAlerts({ alerts, host, className }: RecentAlertsProps) {
  const { t } = useTranslation();
  return (
    <Card
      flush
      className={className}
      title={t('dashboard.recentAlerts')}
      actions={
        <Link to="/alerts" search={{ host }} className="text-accent hover:underline">
          {t('common.all')}
        </Link>
      }
    >
      {alerts.length === 0 ? (
        <EmptyState icon={<ShieldCheck aria-hidden="true" />} title={t('alerts.none')} />
      ) : (
        <ul className="divide-y">
          {alerts.map((alert) => (
            <li key={alert.id}>
              <Link
                to="/alerts/$alertId"
                params={{ alertId: alert.id }}
                className="flex items-center gap-3 px-4 py-2 hover:bg-sunken focus-visible:-outline-offset-2"
              >
                <SeverityIcon severity={alert.rule.severity} />
                <span className="sr-only">{t(`severity.${alert.rule.severity}`)}</span>
                <span className="min-w-0 flex-1">
                  <span className="flex items-center gap-2">
                    <span className="truncate font-medium">{alert.rule.name}</span>
                    {alert.count > 1 && <span className="text-xs text-faint tabular-nums">×{alert.count}</span>}
                  </span>
                  <RawText oneLine text={alert.process?.command_line ?? ''} className="text-muted" />
                </span>
                <ResponseBadge responses={alert.responses} />
                <span className="hidden w-28 shrink-0 text-right text-xs text-muted sm:block">
                  <span className="block truncate">{alert.host_name}</span>
                  <Time value={alert.last_time} form="relative" />
                </span>
                <span className="hidden w-24 shrink-0 justify-end md:flex">
                  <AlertStatusBadge status={alert.status} />
                </span>
              </Link>
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}
