import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { ShieldCheck } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { Card } from '../../design/Card';
import { RawText } from '../../design/RawText';
import { EmptyState, Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { eventId, headline, isGap, text } from '../../ecs/document';
import { RecentAlerts } from '../dashboard/RecentAlerts';
import { EventTypeBadge } from '../events/EventTypeBadge';

const SHOWN = 10;

export function HostAlerts({ hostId }: { hostId: string }) {
  const alerts = useQuery({
    queryKey: ['alerts', 'host', hostId],
    queryFn: () => api.alerts({ host: hostId }, undefined, SHOWN),
  });
  return <Fetched query={alerts}>{({ items }) => <RecentAlerts alerts={items} host={hostId} />}</Fetched>;
}

export function HostEvents({ hostId }: { hostId: string }) {
  const { t } = useTranslation();
  const events = useQuery({
    queryKey: ['events', 'host', hostId],
    queryFn: () => api.events({ host: hostId }, undefined, SHOWN),
    refetchInterval: 10_000,
  });
  return (
    <Card
      flush
      title={t('hosts.latestEvents')}
      actions={
        <Link to="/events" search={{ host: hostId }} className="text-accent hover:underline">
          {t('common.all')}
        </Link>
      }
    >
      <Fetched query={events}>
        {({ items }) =>
          items.length === 0 ? (
            <EmptyState icon={<ShieldCheck aria-hidden="true" />} title={t('events.none')} />
          ) : (
            <ul className="divide-y">
              {items.map((event) => (
                <li key={eventId(event)}>
                  <Link
                    to="/events"
                    search={{ host: hostId, event: eventId(event) }}
                    className={`grid grid-cols-[auto_auto_minmax(0,1fr)] items-center gap-3 px-4 py-1.5 hover:bg-sunken ${isGap(event) ? 'gap-hatch' : ''}`}
                  >
                    <span className="text-xs text-muted">
                      <Time value={text(event, '@timestamp')} form="precise" />
                    </span>
                    <EventTypeBadge event={event} />
                    <RawText oneLine text={isGap(event) ? text(event, 'rampart.gap.reason') : headline(event)} />
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
