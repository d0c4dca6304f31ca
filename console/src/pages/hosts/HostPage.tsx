import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, getRouteApi } from '@tanstack/react-router';
import { Ban, ChevronRight, ListTree, TriangleAlert } from 'lucide-react';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Host } from '../../api/types';
import { useMay } from '../../app/session';
import { TimeChart } from '../../charts/LazyTimeChart';
import { Button } from '../../design/Button';
import { Card, Facts } from '../../design/Card';
import { CopyButton } from '../../design/CopyButton';
import { ConfirmDialog } from '../../design/Dialog';
import { Page } from '../../design/Page';
import { Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { useToast } from '../../design/Toast';
import { AccountCard } from './AccountCard';
import { CoverageCard } from './CoverageCard';
import { HostAlerts, HostEvents } from './HostActivity';
import { HostStatus } from './HostStatus';
import { LedgerCard } from './LedgerCard';
import { SourcesCard } from './SourcesCard';

const route = getRouteApi('/shell/hosts/$hostId');

export function HostPage() {
  const { hostId } = route.useParams();
  const host = useQuery({ queryKey: ['hosts', hostId], queryFn: () => api.host(hostId) });
  return <Fetched query={host}>{(data) => <OneHost host={data} />}</Fetched>;
}

function OneHost({ host }: { host: Host }) {
  const { t } = useTranslation();
  const histogram = useQuery({
    queryKey: ['histogram', 'host', host.id],
    queryFn: () => api.histogram({ host: host.id, buckets: 60 }),
    refetchInterval: 15_000,
  });
  return (
    <Page
      title={
        <span className="flex flex-wrap items-center gap-x-3">
          <span className="flex items-center gap-1 font-normal text-muted">
            <Link to="/hosts" search={{}} className="hover:underline">
              {t('nav.hosts')}
            </Link>
            <ChevronRight aria-hidden="true" className="size-4" />
          </span>
          {host.name}
          <HostStatus host={host} />
        </span>
      }
      summary={`${host.os} · ${host.kernel}`}
      actions={
        <>
          <Link
            to="/events"
            search={{ host: host.id, live: '1' }}
            className="inline-flex h-8 items-center gap-2 rounded-md border border-line-strong bg-surface px-3 hover:bg-sunken"
          >
            <ListTree aria-hidden="true" className="size-4" />
            {t('events.liveTail')}
          </Link>
          <Revoke host={host} />
        </>
      }
    >
      <div className="grid items-start gap-4 lg:grid-cols-3">
        <div className="flex min-w-0 flex-col gap-4 lg:col-span-2">
          <LedgerCard ledger={host.ledger} />
          <AccountCard hostId={host.id} />
          <Card title={t('hosts.eventsLastHour')}>
            <Fetched query={histogram} rows={3}>
              {(buckets) => (
                <TimeChart
                  kind="bars"
                  height={130}
                  label={t('hosts.eventsLastHour')}
                  points={buckets.map((bucket) => ({ time: bucket.start, count: bucket.count }))}
                />
              )}
            </Fetched>
          </Card>
          <HostAlerts hostId={host.id} />
          <HostEvents hostId={host.id} />
        </div>
        <div className="flex min-w-0 flex-col gap-4">
          <HostFacts host={host} />
          {host.rules_errors.length > 0 && (
            <Card title={t('hosts.ruleErrors', { count: host.rules_errors.length })}>
              <ul className="flex flex-col gap-2">
                {host.rules_errors.map((error) => (
                  <li key={error} className="flex gap-2 text-xs">
                    <TriangleAlert aria-hidden="true" className="mt-0.5 size-4 shrink-0 text-warn" />
                    <span className="min-w-0 font-mono [overflow-wrap:anywhere]">{error}</span>
                  </li>
                ))}
              </ul>
            </Card>
          )}
          <CoverageCard hostId={host.id} />
          <SourcesCard hostId={host.id} />
        </div>
      </div>
    </Page>
  );
}

function HostFacts({ host }: { host: Host }) {
  const { t } = useTranslation();
  return (
    <Card title={t('hosts.facts')}>
      <Facts
        items={[
          [t('hosts.lastSeen'), <Time key="seen" value={host.last_seen_at} form="relative" />],
          [t('hosts.enrolledAt'), <Time key="enrolled" value={host.enrolled_at} />],
          [t('hosts.os'), host.os],
          [t('hosts.kernel'), <span key="kernel" className="font-mono text-xs">{host.kernel}</span>],
          [t('hosts.agent'), host.agent_version],
          [t('hosts.sensor'), host.sensor],
          [t('hosts.rulesLoaded'), host.rules_loaded],
          [t('hosts.rulesVersion'), <span key="version" className="font-mono text-xs">{host.rules_version}</span>],
          [t('hosts.certificate'), <Time key="certificate" value={host.cert_expires_at} />],
          [t('hosts.bootId'), <Id key="boot" value={host.boot_id} />],
          [t('hosts.hostId'), <Id key="id" value={host.id} />],
        ]}
      />
    </Card>
  );
}

function Id({ value }: { value: string | null }) {
  if (!value) return <span className="text-faint">–</span>;
  return (
    <span className="flex items-center gap-1">
      <span className="truncate font-mono text-xs" title={value}>
        {value}
      </span>
      <CopyButton small text={value} />
    </span>
  );
}

function Revoke({ host }: { host: Host }) {
  const { t } = useTranslation();
  const may = useMay('administer');
  const client = useQueryClient();
  const toast = useToast();
  const [asking, setAsking] = useState(false);
  const revoke = useMutation({
    mutationFn: () => api.revokeHost(host.id),
    onSuccess: async () => {
      setAsking(false);
      toast.done(t('hosts.revoked', { name: host.name }));
      await client.invalidateQueries({ queryKey: ['hosts'] });
    },
    onError: toast.failed,
  });
  if (!may || host.revoked) return null;
  return (
    <>
      <Button variant="danger" icon={<Ban />} onClick={() => setAsking(true)} data-testid="host-revoke">
        {t('hosts.revoke')}
      </Button>
      <ConfirmDialog
        open={asking}
        onClose={() => setAsking(false)}
        onConfirm={() => revoke.mutate()}
        busy={revoke.isPending}
        title={t('hosts.revokeTitle', { name: host.name })}
        confirmLabel={t('hosts.revoke')}
      >
        {t('hosts.revokeText')}
      </ConfirmDialog>
    </>
  );
}
