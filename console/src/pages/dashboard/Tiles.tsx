import { Link, type LinkProps } from '@tanstack/react-router';
import { CircleCheck, TriangleAlert } from 'lucide-react';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import type { Dashboard } from '../../api/types';
import { cx } from '../../design/cx';
import { formatNumber } from '../../i18n/format';

/** The four figures on top; each leads to the list behind it. */
export function Tiles({ data }: { data: Dashboard }) {
  const { t, i18n } = useTranslation();
  const say = (value: number) => formatNumber(value, i18n.language);
  const open = data.alerts_by_severity.reduce((sum, one) => sum + one.open, 0);
  const urgent = data.alerts_by_severity
    .filter((one) => one.severity === 'critical' || one.severity === 'high')
    .reduce((sum, one) => sum + one.open, 0);
  // The minute that is running would always look like a drop, and the one before it
  // is empty where the first host has just begun to report.
  const lastMinute = Math.max(...data.events_per_minute.slice(-2).map((one) => one.count), 0);
  const lastHour = data.events_per_minute.reduce((sum, one) => sum + one.count, 0);
  const { gaps_24h: gaps, lost_24h: lost } = data.completeness;

  return (
    <div className="grid grid-cols-2 gap-3 lg:grid-cols-4 lg:gap-4">
      <Tile
        label={t('dashboard.hostsOnline')}
        value={
          <>
            {say(data.hosts.online)}
            <span className="text-lg font-normal text-faint"> / {say(data.hosts.total)}</span>
          </>
        }
        note={data.hosts.offline ? t('dashboard.hostsOffline', { count: data.hosts.offline }) : t('dashboard.allOnline')}
        warn={data.hosts.offline > 0}
        link={{ to: '/hosts', search: {} }}
      />
      <Tile
        label={t('dashboard.openAlerts')}
        value={say(open)}
        note={t('dashboard.urgent', { count: urgent })}
        warn={urgent > 0}
        link={{ to: '/alerts', search: { status: 'open' } }}
      />
      <Tile
        label={t('dashboard.eventsLastMinute')}
        value={say(lastMinute)}
        note={t('dashboard.eventsLastHour', { total: say(lastHour) })}
        link={{ to: '/events', search: { range: '1h' } }}
      />
      <Tile
        label={t('dashboard.completeness')}
        value={
          <span className={cx('flex items-center gap-2', gaps ? 'text-warn' : 'text-good')}>
            {gaps ? <TriangleAlert aria-hidden="true" className="size-6" /> : <CircleCheck aria-hidden="true" className="size-6" />}
            {gaps ? t('dashboard.gaps', { count: gaps }) : t('dashboard.complete')}
          </span>
        }
        note={gaps ? t('dashboard.lost', { total: say(lost) }) : t('dashboard.nothingMissing')}
        warn={gaps > 0}
        link={{ to: '/events', search: { range: '24h', type: 'gap' } }}
      />
    </div>
  );
}

interface TileProps {
  label: string;
  value: ReactNode;
  note: string;
  warn?: boolean;
  link: Pick<LinkProps, 'to' | 'search'>;
}

function Tile({ label, value, note, warn, link }: TileProps) {
  return (
    <Link {...link} className="rounded-lg border bg-surface px-4 py-3 transition-colors hover:border-line-strong hover:bg-sunken">
      <p className="text-xs text-muted">{label}</p>
      <p className="mt-1 text-2xl leading-8 font-semibold tabular-nums">{value}</p>
      <p className={cx('mt-0.5 truncate text-xs', warn ? 'text-warn' : 'text-faint')}>{note}</p>
    </Link>
  );
}
