import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { Link, getRouteApi, useNavigate } from '@tanstack/react-router';
import { createColumnHelper } from '@tanstack/react-table';
import { ShieldCheck } from 'lucide-react';
import { useCallback, useMemo, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Alert } from '../../api/types';
import { useMay } from '../../app/session';
import { Card } from '../../design/Card';
import { DataTable } from '../../design/DataTable';
import { SearchInput, Select } from '../../design/Field';
import { Page } from '../../design/Page';
import { RawText } from '../../design/RawText';
import { SeverityBadge } from '../../design/Severity';
import { EmptyState, Fetched, SkeletonRows } from '../../design/States';
import { Time } from '../../design/Time';
import { SEVERITIES } from '../words';
import { AlertStatusBadge, ResponseBadge } from './badges';
import { BulkBar } from './BulkBar';

const route = getRouteApi('/shell/alerts');
const column = createColumnHelper<Alert>();
/** What "open" means to the API. */
const OPEN = 'new,in_progress';

export function AlertsPage() {
  const { t } = useTranslation();
  const search = route.useSearch();
  const navigate = useNavigate();
  const mayTriage = useMay('work_on_alerts');
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const hosts = useQuery({ queryKey: ['hosts'], queryFn: api.hosts });
  const filter = { ...search, status: search.status === 'open' ? OPEN : search.status };
  const alerts = useInfiniteQuery({
    queryKey: ['alerts', filter],
    queryFn: ({ pageParam }) => api.alerts(filter, pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
  });
  const rows = useMemo(() => alerts.data?.pages.flatMap((page) => page.items), [alerts.data]);

  const change = (part: Partial<typeof search>) => {
    setChosen(new Set());
    void navigate({ to: '/alerts', search: { ...search, ...part }, replace: true });
  };

  const toggle = useCallback((id: string) => {
    setChosen((before) => {
      const after = new Set(before);
      if (!after.delete(id)) after.add(id);
      return after;
    });
  }, []);

  const columns = useMemo(() => {
    const list = [
      column.display({
        id: 'severity',
        header: t('alerts.severity'),
        meta: { width: 132 },
        cell: ({ row }) => <SeverityBadge severity={row.original.rule.severity} />,
      }),
      column.display({
        id: 'rule',
        header: t('alerts.alert'),
        cell: ({ row: { original: alert } }) => (
          <>
            <span className="flex min-w-0 items-baseline gap-2">
              <Link to="/alerts/$alertId" params={{ alertId: alert.id }} className="truncate font-medium hover:underline">
                {alert.rule.name}
              </Link>
              {alert.count > 1 && <span className="shrink-0 text-xs text-faint tabular-nums">×{alert.count}</span>}
            </span>
            <RawText oneLine text={alert.process?.command_line ?? '–'} className="text-muted" />
          </>
        ),
      }),
      column.display({
        id: 'host',
        header: t('alerts.host'),
        meta: { width: 140, from: 'medium' },
        cell: ({ row }) => row.original.host_name,
      }),
      column.display({
        id: 'response',
        header: t('alerts.response'),
        meta: { width: 208, from: 'wide' },
        cell: ({ row }) => <ResponseBadge responses={row.original.responses} />,
      }),
      column.display({
        id: 'status',
        header: t('alerts.status'),
        meta: { width: 120, from: 'medium' },
        cell: ({ row }) => <AlertStatusBadge status={row.original.status} />,
      }),
      column.display({
        id: 'assignee',
        header: t('alerts.assignee'),
        meta: { width: 110, from: 'very-wide' },
        cell: ({ row }) => row.original.assignee ?? <span className="text-faint">–</span>,
      }),
      column.display({
        id: 'time',
        header: t('alerts.time'),
        meta: { width: 120, from: 'medium' },
        cell: ({ row }) => <Time value={row.original.last_time} form="relative" />,
      }),
    ];
    if (!mayTriage) return list;
    const choose = column.display({
      id: 'choose',
      header: () => <span className="sr-only">{t('alerts.choose')}</span>,
      meta: { width: 40, from: 'medium' },
      cell: ({ row }) => (
        <input
          type="checkbox"
          className="size-4 align-middle accent-accent"
          aria-label={t('alerts.chooseOne', { name: row.original.rule.name })}
          checked={chosen.has(row.original.id)}
          onChange={() => toggle(row.original.id)}
        />
      ),
    });
    return [choose, ...list];
  }, [t, mayTriage, chosen, toggle]);

  const filtered = Object.values(search).some(Boolean);
  return (
    <Page title={t('nav.alerts')} fill>
      <div className="flex flex-wrap gap-2">
        <SearchInput className="min-w-60 flex-1" placeholder={t('alerts.search')} value={search.q ?? ''} onSubmit={(q) => change({ q })} />
        <Select
          aria-label={t('alerts.status')}
          className="w-36"
          value={search.status ?? ''}
          onChange={(status) => change({ status })}
          options={[
            { value: '', label: t('alerts.anyStatus') },
            { value: 'open', label: t('alerts.open') },
            ...(['new', 'in_progress', 'closed'] as const).map((value) => ({ value, label: t(`status.${value}`) })),
          ]}
        />
        <Select
          aria-label={t('alerts.severity')}
          className="w-36"
          value={search.severity ?? ''}
          onChange={(severity) => change({ severity })}
          options={[
            { value: '', label: t('alerts.anySeverity') },
            ...SEVERITIES.map((value) => ({ value, label: t(`severity.${value}`) })),
          ]}
        />
        <Select
          aria-label={t('alerts.host')}
          className="w-40"
          value={search.host ?? ''}
          onChange={(host) => change({ host })}
          options={[
            { value: '', label: t('alerts.anyHost') },
            ...(hosts.data?.items ?? []).map((host) => ({ value: host.id, label: host.name })),
          ]}
        />
        {search.rule && (
          <button
            type="button"
            onClick={() => change({ rule: undefined })}
            className="inline-flex h-8 items-center gap-1.5 rounded-md bg-accent-soft px-2.5 text-accent"
          >
            {t('alerts.ruleFilter', { id: search.rule })} <span aria-hidden="true">×</span>
          </button>
        )}
      </div>
      {chosen.size > 0 && <BulkBar ids={[...chosen]} onDone={() => setChosen(new Set())} />}
      <Card flush className="flex min-h-0 flex-1 flex-col overflow-hidden [&>div]:flex [&>div]:min-h-0 [&>div]:flex-1 [&>div]:flex-col">
        <Fetched query={{ data: rows, error: alerts.error, isPending: alerts.isPending, refetch: alerts.refetch }}>
          {(items) =>
            items.length === 0 ? (
              <EmptyState icon={<ShieldCheck aria-hidden="true" />} title={filtered ? t('common.nothingMatches') : t('alerts.none')}>
                {!filtered && t('alerts.noneHint')}
              </EmptyState>
            ) : (
              <DataTable
                height="fill"
                tall
                label={t('nav.alerts')}
                columns={columns}
                rows={items}
                rowId={(alert) => alert.id}
                rowTestId="alert-row"
                onOpen={(alert) => void navigate({ to: '/alerts/$alertId', params: { alertId: alert.id } })}
                onReachEnd={() => {
                  if (alerts.hasNextPage && !alerts.isFetchingNextPage) void alerts.fetchNextPage();
                }}
                footer={alerts.isFetchingNextPage && <SkeletonRows rows={2} />}
              />
            )
          }
        </Fetched>
      </Card>
    </Page>
  );
}
