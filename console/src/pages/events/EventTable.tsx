import { createColumnHelper } from '@tanstack/react-table';
import { TriangleAlert } from 'lucide-react';
import { type ReactNode, useMemo } from 'react';
import { useTranslation } from 'react-i18next';

import type { EcsDocument } from '../../api/types';
import { DataTable } from '../../design/DataTable';
import { RawText } from '../../design/RawText';
import { Time } from '../../design/Time';
import { eventId, headline, isGap, number, text } from '../../ecs/document';
import { formatNumber } from '../../i18n/format';
import { EventTypeBadge } from './EventTypeBadge';

const column = createColumnHelper<EcsDocument>();

interface EventTableProps {
  events: EcsDocument[];
  onOpen: (event: EcsDocument) => void;
  activeId?: string;
  onReachEnd?: () => void;
  footer?: ReactNode;
}

export function EventTable({ events, onOpen, activeId, onReachEnd, footer }: EventTableProps) {
  const { t } = useTranslation();
  const columns = useMemo(
    () => [
      column.display({
        id: 'time',
        header: t('events.time'),
        meta: { width: 168 },
        cell: ({ row }) => (
          <span className="text-xs">
            <Time value={text(row.original, '@timestamp')} form="precise" />
          </span>
        ),
      }),
      column.display({
        id: 'type',
        header: t('events.type'),
        meta: { width: 132, from: 'medium' },
        cell: ({ row }) => <EventTypeBadge event={row.original} />,
      }),
      column.display({
        id: 'what',
        header: t('events.what'),
        cell: ({ row }) => <RawText oneLine text={headline(row.original)} />,
      }),
      column.display({
        id: 'process',
        header: t('events.process'),
        meta: { width: 170, from: 'wide' },
        cell: ({ row }) => {
          const pid = number(row.original, 'process.pid');
          return pid === undefined ? (
            <span className="text-faint">–</span>
          ) : (
            <span className="flex items-baseline gap-1.5">
              <RawText oneLine text={text(row.original, 'process.name')} />
              <span className="shrink-0 text-2xs text-faint tabular-nums">{pid}</span>
            </span>
          );
        },
      }),
      column.display({
        id: 'parent',
        header: t('events.parent'),
        meta: { width: 120, from: 'very-wide' },
        cell: ({ row }) => <RawText oneLine text={text(row.original, 'process.parent.name')} className="text-muted" />,
      }),
      column.display({
        id: 'user',
        header: t('events.user'),
        meta: { width: 100, from: 'wide' },
        cell: ({ row }) => <RawText oneLine text={text(row.original, 'user.name') || text(row.original, 'user.id')} className="text-muted" />,
      }),
      column.display({
        id: 'host',
        header: t('events.host'),
        meta: { width: 130, from: 'very-wide' },
        cell: ({ row }) => <span className="text-muted">{text(row.original, 'host.name')}</span>,
      }),
    ],
    [t],
  );
  return (
    <DataTable
      height="fill"
      label={t('nav.events')}
      columns={columns}
      rows={events}
      rowId={eventId}
      rowTestId="event-row"
      onOpen={onOpen}
      activeId={activeId}
      onReachEnd={onReachEnd}
      footer={footer}
      rowClass={(event) => (isGap(event) ? 'gap-hatch' : undefined)}
      wholeRow={(event) => (isGap(event) ? <GapRow event={event} /> : undefined)}
    />
  );
}

/** Something is missing here: what, how much, why, and in which span. */
function GapRow({ event }: { event: EcsDocument }) {
  const { t, i18n } = useTranslation();
  const count = number(event, 'rampart.gap.count');
  const reason = text(event, 'rampart.gap.reason');
  const key = `gapReason.${reason}`;
  return (
    <span data-testid="gap-row" className="flex flex-wrap items-center gap-x-2 text-xs font-medium text-warn">
      <TriangleAlert aria-hidden="true" className="size-4 shrink-0" />
      {count === undefined
        ? t('events.gapUnknown', { what: text(event, 'rampart.gap.what') })
        : t('events.gap', { total: formatNumber(count, i18n.language), what: text(event, 'rampart.gap.what') })}
      <span className="font-normal">
        {i18n.exists(key) ? t(key as 'gapReason.spool_full') : reason} · {text(event, 'rampart.gap.sensor')} · {text(event, 'host.name')} ·{' '}
        <Time value={text(event, 'rampart.gap.from')} form="precise" /> – <Time value={text(event, 'rampart.gap.until')} form="precise" />
      </span>
    </span>
  );
}
