import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { Monitor } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Host } from '../../api/types';
import { Badge } from '../../design/Badge';
import { Card } from '../../design/Card';
import { EmptyState, Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { HostStatus } from '../hosts/HostStatus';

const MOST = 6;

/** The hosts that need a look first: with alerts, then offline, then by name. */
export function HostCards() {
  const { t } = useTranslation();
  const hosts = useQuery({ queryKey: ['hosts'], queryFn: api.hosts });
  return (
    <Card
      flush
      title={t('nav.hosts')}
      actions={
        <Link to="/hosts" search={{}} className="text-accent hover:underline">
          {t('common.all')}
        </Link>
      }
    >
      <Fetched query={hosts} rows={3}>
        {({ items }) =>
          items.length === 0 ? (
            <EmptyState icon={<Monitor aria-hidden="true" />} title={t('hosts.none')}>
              <Link to="/settings/{-$tab}" params={{ tab: 'enrollment' }} className="text-accent hover:underline">
                {t('hosts.enroll')}
              </Link>
            </EmptyState>
          ) : (
            <ul className="divide-y">
              {items
                .filter((host) => !host.revoked)
                .toSorted((a, b) => urgency(b) - urgency(a) || a.name.localeCompare(b.name))
                .slice(0, MOST)
                .map((host) => (
                  <li key={host.id}>
                    <Link
                      to="/hosts/$hostId"
                      params={{ hostId: host.id }}
                      className="flex items-center justify-between gap-3 px-4 py-2 hover:bg-sunken focus-visible:-outline-offset-2"
                    >
                      <span className="min-w-0">
                        <span className="block truncate font-medium">{host.name}</span>
                        <span className="block truncate text-xs text-faint">{host.os}</span>
                      </span>
                      <span className="flex shrink-0 flex-col items-end gap-1 text-xs text-muted">
                        <HostStatus host={host} />
                        {host.open_alerts > 0 ? (
                          <Badge tone="bad">{t('hosts.openAlerts', { count: host.open_alerts })}</Badge>
                        ) : (
                          <Time value={host.last_seen_at} form="relative" />
                        )}
                      </span>
                    </Link>
                  </li>
                ))}
            </ul>
          )
        }
      </Fetched>
    </Card>
  );
}

function urgency(host: Host): number {
  return host.open_alerts * 2 + (host.online ? 0 : 1);
}
