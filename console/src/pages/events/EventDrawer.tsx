import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { EcsDocument } from '../../api/types';
import { Dialog } from '../../design/Dialog';
import { Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { eventId, text } from '../../ecs/document';
import { EventDetail } from './EventDetail';
import { EventTypeBadge } from './EventTypeBadge';

interface EventDrawerProps {
  /** From the address bar; undefined keeps the drawer closed. */
  id: string | undefined;
  /** The event, if the table has it; else it is fetched. */
  known: EcsDocument | null;
  onClose: () => void;
  onFilter: (name: string, value: string) => void;
}

export function EventDrawer({ id, known, onClose, onFilter }: EventDrawerProps) {
  const { t } = useTranslation();
  const inHand = known && eventId(known) === id ? known : undefined;
  const fetched = useQuery({
    queryKey: ['event', id],
    queryFn: () => api.event(id ?? ''),
    enabled: id !== undefined && !inHand,
    staleTime: Infinity,
  });
  const query = inHand ? { data: inHand, error: null, isPending: false, refetch: () => undefined } : fetched;
  return (
    <Dialog kind="drawer" open={id !== undefined} onClose={onClose} title={t('events.detail')} testId="event-drawer">
      <Fetched<EcsDocument> query={query}>
        {(event) => (
          <div className="-m-4">
            <Summary event={event} />
            <EventDetail event={event} onFilter={onFilter} />
          </div>
        )}
      </Fetched>
    </Dialog>
  );
}

function Summary({ event }: { event: EcsDocument }) {
  const { t } = useTranslation();
  const host = text(event, 'host.id');
  const entity = text(event, 'process.entity_id');
  const parent = text(event, 'process.parent.entity_id');
  return (
    <div className="flex flex-wrap items-center gap-x-3 gap-y-1.5 px-4 pt-3 pb-1">
      <EventTypeBadge event={event} />
      <span className="text-xs text-muted">
        <Time value={text(event, '@timestamp')} />
      </span>
      <Link to="/hosts/$hostId" params={{ hostId: host }} className="text-xs text-accent hover:underline">
        {text(event, 'host.name') || host}
      </Link>
      {entity && (
        <Link to="/events" search={{ host, field: [`process.entity_id:${entity}`], range: '7d' }} className="text-xs text-accent hover:underline">
          {t('alerts.eventsOfProcess')}
        </Link>
      )}
      {entity && (
        <Link to="/events" search={{ host, field: [`process.parent.entity_id:${entity}`], range: '7d' }} className="text-xs text-accent hover:underline">
          {t('alerts.eventsOfChildren')}
        </Link>
      )}
      {parent && (
        <Link to="/events" search={{ host, field: [`process.entity_id:${parent}`], range: '7d' }} className="text-xs text-accent hover:underline">
          {t('events.ofParent')}
        </Link>
      )}
    </div>
  );
}
