import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { getRouteApi, useNavigate } from '@tanstack/react-router';
import { Radio, RefreshCw } from 'lucide-react';
import { useMemo, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { EcsDocument } from '../../api/types';
import { TimeChart } from '../../charts/LazyTimeChart';
import { Button } from '../../design/Button';
import { Card } from '../../design/Card';
import { Page } from '../../design/Page';
import { EmptyState, Fetched, Skeleton, SkeletonRows } from '../../design/States';
import { eventId } from '../../ecs/document';
import { EventDrawer } from './EventDrawer';
import { EventTable } from './EventTable';
import { FilterBar } from './FilterBar';
import { LiveTail } from './LiveTail';
import type { EventSearch } from './query';
import { spanOf } from './time-range';

const route = getRouteApi('/shell/events');
const BUCKETS = 60;

export function EventsPage() {
  const { t } = useTranslation();
  const search = route.useSearch();
  const navigate = useNavigate();
  const [opened, setOpened] = useState<EcsDocument | null>(null);
  const live = search.live === '1';

  const change = (part: Partial<EventSearch>) => {
    void navigate({ to: '/events', search: { ...search, ...part }, replace: part.event !== undefined });
  };
  const open = (event: EcsDocument) => {
    setOpened(event);
    change({ event: eventId(event) });
  };
  const filterFor = (name: string, value: string) => {
    setOpened(null);
    change({ event: undefined, field: [...new Set([...(search.field ?? []), `${name}:${value}`])] });
  };

  return (
    <Page
      title={t('nav.events')}
      fill
      actions={
        <Button
          variant={live ? 'primary' : 'default'}
          icon={<Radio />}
          aria-pressed={live}
          data-testid="events-live"
          onClick={() => change({ live: live ? undefined : '1' })}
        >
          {t('events.liveTail')}
        </Button>
      }
    >
      <FilterBar search={search} onChange={change} live={live} />
      {live ? (
        <LiveTail
          filter={{ host: search.host, type: search.type, q: search.q }}
          fields={search.field ?? []}
          onOpen={open}
          activeId={search.event}
        />
      ) : (
        <SearchedEvents search={search} onChange={change} onOpen={open} />
      )}
      <EventDrawer id={search.event} known={opened} onClose={() => change({ event: undefined })} onFilter={filterFor} />
    </Page>
  );
}

interface SearchedEventsProps {
  search: EventSearch;
  onChange: (part: Partial<EventSearch>) => void;
  onOpen: (event: EcsDocument) => void;
}

function SearchedEvents({ search, onChange, onOpen }: SearchedEventsProps) {
  const { t } = useTranslation();
  // "Until now" is fixed when the filter changes or on a refresh, so that the
  // pages of one search fit together.
  const [now, setNow] = useState(Date.now);
  const { range, from, to } = search;
  const span = useMemo(() => spanOf({ range, from, to }, now), [range, from, to, now]);
  const filter = { host: search.host, type: search.type, q: search.q, field: search.field, ...span };

  const events = useInfiniteQuery({
    queryKey: ['events', filter],
    queryFn: ({ pageParam }) => api.events(filter, pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
  });
  const histogram = useQuery({
    queryKey: ['histogram', span, search.host, search.type],
    queryFn: () => api.histogram({ ...span, host: search.host, type: search.type, buckets: BUCKETS }),
  });
  const rows = useMemo(() => events.data?.pages.flatMap((page) => page.items), [events.data]);
  const gapsNotShown = events.data?.pages.reduce((sum, page) => sum + page.gaps_not_shown, 0) ?? 0;
  const narrowed = Boolean(search.q || search.field);

  return (
    <>
      <Card className="shrink-0">
        {histogram.data ? (
          <TimeChart
            kind="bars"
            height={96}
            label={narrowed ? t('events.histogramAll') : t('events.histogram')}
            points={histogram.data.map((bucket) => ({ time: bucket.start, count: bucket.count }))}
            onSelect={(start, end) => onChange({ range: undefined, from: start.toISOString(), to: end.toISOString() })}
          />
        ) : (
          <Skeleton className="h-24 w-full" />
        )}
        {narrowed && <p className="mt-1 text-2xs text-faint">{t('events.histogramAll')}</p>}
      </Card>
      <Card
        flush
        title={
          <span className="font-normal text-muted" aria-live="polite">
            {rows && t(events.hasNextPage ? 'events.countMore' : 'events.count', { count: rows.length })}
            {gapsNotShown > 0 && <span className="ml-2 text-warn">{t('events.gapsNotShown', { count: gapsNotShown })}</span>}
          </span>
        }
        actions={
          <Button size="sm" variant="ghost" icon={<RefreshCw />} busy={events.isFetching && !events.isFetchingNextPage} onClick={() => setNow(Date.now())}>
            {t('common.refresh')}
          </Button>
        }
        className="flex min-h-0 flex-1 flex-col overflow-hidden [&>div]:flex [&>div]:min-h-0 [&>div]:flex-1 [&>div]:flex-col"
      >
        <Fetched query={{ data: rows, error: events.error, isPending: events.isPending, refetch: events.refetch }}>
          {(items) =>
            items.length === 0 ? (
              <EmptyState title={t('events.none')}>{t('events.noneHint')}</EmptyState>
            ) : (
              <EventTable
                events={items}
                onOpen={onOpen}
                activeId={search.event}
                onReachEnd={() => {
                  if (events.hasNextPage && !events.isFetchingNextPage) void events.fetchNextPage();
                }}
                footer={events.isFetchingNextPage && <SkeletonRows rows={2} />}
              />
            )
          }
        </Fetched>
      </Card>
    </>
  );
}
