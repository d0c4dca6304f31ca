import { useQuery } from '@tanstack/react-query';
import { Link, getRouteApi, useNavigate } from '@tanstack/react-router';
import { createColumnHelper } from '@tanstack/react-table';
import { Monitor, Plus, TriangleAlert } from 'lucide-react';
import { useMemo } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Host } from '../../api/types';
import { useMay } from '../../app/session';
import { Badge } from '../../design/Badge';
import { Button } from '../../design/Button';
import { Card } from '../../design/Card';
import { DataTable } from '../../design/DataTable';
import { SearchInput, Select } from '../../design/Field';
import { Page } from '../../design/Page';
import { EmptyState, Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { HostStatus, hostState } from './HostStatus';
import { unaccounted } from './ledger';

const route = getRouteApi('/shell/hosts');
const column = createColumnHelper<Host>();
/** The order in which they sort: what needs a look first. */
const STATES = ['silent', 'offline', 'stopped', 'online', 'revoked'] as const;

export function HostsPage() {
  const { t } = useTranslation();
  const search = route.useSearch();
  const navigate = useNavigate();
  const mayEnroll = useMay('administer');
  const hosts = useQuery({ queryKey: ['hosts'], queryFn: api.hosts });

  const columns = useMemo(
    () => [
      column.accessor((host) => STATES.indexOf(hostState(host)), {
        id: 'status',
        header: t('hosts.status'),
        meta: { width: 110 },
        cell: ({ row }) => <HostStatus host={row.original} />,
      }),
      column.accessor('name', {
        header: t('hosts.name'),
        cell: ({ row }) => (
          <Link to="/hosts/$hostId" params={{ hostId: row.original.id }} className="font-medium hover:underline">
            {row.original.name}
          </Link>
        ),
      }),
      column.accessor('open_alerts', {
        header: t('hosts.openAlertsHead'),
        meta: { width: 110, from: 'medium' },
        cell: ({ row }) =>
          row.original.open_alerts > 0 ? <Badge tone="bad">{row.original.open_alerts}</Badge> : <span className="text-faint">0</span>,
      }),
      column.accessor('os', { header: t('hosts.os'), meta: { from: 'very-wide' } }),
      column.accessor('agent_version', {
        header: t('hosts.agent'),
        meta: { width: 150, from: 'wide' },
        cell: ({ row }) => (
          <>
            {row.original.agent_version} <span className="text-faint">{row.original.sensor}</span>
          </>
        ),
      }),
      column.accessor('rules_loaded', {
        header: t('hosts.rules'),
        meta: { width: 150, from: 'wide' },
        cell: ({ row }) => <RulesCell host={row.original} />,
      }),
      column.accessor((host) => host.ledger.dropped + host.ledger.kernel_lost, {
        id: 'lost',
        header: t('hosts.records'),
        meta: { width: 130, from: 'wide' },
        cell: ({ row }) => <CompletenessCell host={row.original} />,
      }),
      column.accessor('last_seen_at', {
        header: t('hosts.lastSeen'),
        meta: { width: 130 },
        cell: ({ row }) => <Time value={row.original.last_seen_at} form="relative" />,
      }),
    ],
    [t],
  );

  function matches(host: Host): boolean {
    const words = search.q?.toLowerCase();
    if (words && !`${host.name} ${host.os} ${host.kernel} ${host.id}`.toLowerCase().includes(words)) return false;
    return !search.status || search.status === hostState(host);
  }

  const enroll = (
    <Button variant="primary" icon={<Plus />} onClick={() => void navigate({ to: '/settings/{-$tab}', params: { tab: 'enrollment' } })}>
      {t('hosts.enroll')}
    </Button>
  );

  return (
    <Page title={t('nav.hosts')} fill actions={mayEnroll && enroll}>
      <div className="flex flex-wrap gap-2">
        <SearchInput
          className="w-80 max-w-full flex-1 md:flex-none"
          placeholder={t('hosts.search')}
          value={search.q ?? ''}
          onSubmit={(q) => void navigate({ to: '/hosts', search: { ...search, q }, replace: true })}
        />
        <Select
          aria-label={t('hosts.status')}
          className="w-36"
          value={search.status ?? ''}
          onChange={(status) => void navigate({ to: '/hosts', search: { ...search, status }, replace: true })}
          options={[
            { value: '', label: t('hosts.anyStatus') },
            ...STATES.map((value) => ({ value, label: t(`hosts.state.${value}`) })),
          ]}
        />
      </div>
      <Card flush className="flex min-h-0 flex-1 flex-col overflow-hidden [&>div]:flex [&>div]:min-h-0 [&>div]:flex-1 [&>div]:flex-col">
        <Fetched query={hosts}>
          {({ items }) => {
            const shown = items.filter(matches);
            if (items.length === 0) {
              return (
                <EmptyState icon={<Monitor aria-hidden="true" />} title={t('hosts.none')}>
                  <p className="mb-3">{t('hosts.noneHint')}</p>
                  {mayEnroll && enroll}
                </EmptyState>
              );
            }
            if (shown.length === 0) return <EmptyState title={t('common.nothingMatches')} />;
            return (
              <DataTable
                height="fill"
                label={t('nav.hosts')}
                columns={columns}
                rows={shown}
                rowId={(host) => host.id}
                rowTestId="host-row"
                sortable
                onOpen={(host) => void navigate({ to: '/hosts/$hostId', params: { hostId: host.id } })}
              />
            );
          }}
        </Fetched>
      </Card>
    </Page>
  );
}

function RulesCell({ host }: { host: Host }) {
  const { t } = useTranslation();
  if (host.rules_errors.length === 0) return <span className="tabular-nums">{host.rules_loaded}</span>;
  return (
    <Badge tone="warn" icon={<TriangleAlert aria-hidden="true" />}>
      {t('hosts.ruleErrors', { count: host.rules_errors.length })}
    </Badge>
  );
}

function CompletenessCell({ host }: { host: Host }) {
  const { t, i18n } = useTranslation();
  const lost = host.ledger.dropped + host.ledger.kernel_lost;
  if (unaccounted(host.ledger) < 0) return <Badge tone="bad">{t('hosts.ledgerBroken')}</Badge>;
  if (host.ledger.unexplained > 0) {
    return (
      <Badge tone="bad">{t('hosts.unexplained', { total: host.ledger.unexplained.toLocaleString(i18n.language) })}</Badge>
    );
  }
  if (lost > 0) return <Badge tone="warn">{t('hosts.lost', { total: lost.toLocaleString(i18n.language) })}</Badge>;
  return <span className="text-good">{t('hosts.complete')}</span>;
}
