import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { Link, getRouteApi, useNavigate } from '@tanstack/react-router';
import { Check, Undo2, X } from 'lucide-react';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Order } from '../../api/types';
import { useMay, useUser } from '../../app/session';
import { Button } from '../../design/Button';
import { Card } from '../../design/Card';
import { Select } from '../../design/Field';
import { Page } from '../../design/Page';
import { RawText } from '../../design/RawText';
import { EmptyState, Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { SimpleTable } from '../settings/SimpleTable';
import { useChange } from '../settings/use-change';
import { OrderDrawer } from './OrderDrawer';
import { Runs } from './Runs';
import { LOOK_EVERY_MS, ORDER_STATES, OrderStateBadge, OrderTarget } from './words';

const route = getRouteApi('/shell/responses');

export function ResponsesPage() {
  const { t } = useTranslation();
  const search = route.useSearch();
  const navigate = useNavigate();
  const [openId, setOpenId] = useState<string>();
  const hosts = useQuery({ queryKey: ['hosts'], queryFn: api.hosts });
  const pending = useQuery({
    queryKey: ['responses', 'pending'],
    queryFn: () => api.responses({ state: 'pending' }),
    refetchInterval: LOOK_EVERY_MS,
  });
  const orders = useInfiniteQuery({
    queryKey: ['responses', 'all', search.state],
    queryFn: ({ pageParam }) => api.responses({ state: ORDER_STATES.find((state) => state === search.state) }, pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next_cursor ?? undefined,
    refetchInterval: LOOK_EVERY_MS,
  });
  const listed = orders.data?.pages.flatMap((page) => page.items);
  const hostName = (id: string) => hosts.data?.items.find((host) => host.id === id)?.name ?? id;

  const shown = (order: Order) => [
    <button key="what" type="button" className="text-left font-medium hover:underline" onClick={() => setOpenId(order.id)}>
      {t(`order.action.${order.action}`)} <OrderTarget order={order} />
    </button>,
    <Link key="host" to="/hosts/$hostId" params={{ hostId: order.host_id }} className="hover:underline">
      {hostName(order.host_id)}
    </Link>,
    <span key="by">
      <RawText text={order.created_by} /> · <Time value={order.created_at} form="short" />
    </span>,
  ];

  return (
    <Page title={t('nav.responses')}>
      <Card flush title={t('responses.pending')} testId="pending-responses">
        <Fetched query={pending} rows={2}>
          {({ items }) =>
            items.length === 0 ? (
              <EmptyState title={t('responses.nonePending')} />
            ) : (
              <SimpleTable
                label={t('responses.pending')}
                head={[t('responses.what'), t('responses.host'), t('responses.orderedBy'), t('responses.why'), t('responses.approvals'), '']}
                rows={items.map((order) => ({
                  key: order.id,
                  cells: [
                    ...shown(order),
                    <RawText key="why" text={order.comment} />,
                    <span key="count" className="tabular-nums">
                      {t('responses.approvalCount', {
                        given: order.decisions.filter((one) => one.approve).length,
                        needed: order.approvals_needed,
                      })}
                    </span>,
                    <Decide key="do" order={order} />,
                  ],
                }))}
              />
            )
          }
        </Fetched>
      </Card>
      <Card
        flush
        title={t('responses.orders')}
        testId="responses"
        actions={
          <Select
            compact
            aria-label={t('responses.state')}
            value={search.state ?? ''}
            onChange={(state) => void navigate({ to: '/responses', search: { state: state || undefined }, replace: true })}
            options={[{ value: '', label: t('common.all') }, ...ORDER_STATES.map((value) => ({ value, label: t(`order.state.${value}`) }))]}
          />
        }
      >
        <Fetched query={{ ...orders, data: listed }}>
          {(items) =>
            items.length === 0 ? (
              <EmptyState title={t('responses.none')} />
            ) : (
              <SimpleTable
                label={t('responses.orders')}
                head={[t('responses.what'), t('responses.host'), t('responses.orderedBy'), t('responses.state'), t('responses.proof'), '']}
                rows={items.map((order) => ({
                  key: order.id,
                  cells: [
                    ...shown(order),
                    <OrderStateBadge key="state" order={order} />,
                    <RawText key="proof" text={order.reason} oneLine className="inline-block max-w-md" />,
                    <TakeBack key="do" order={order} />,
                  ],
                }))}
              />
            )
          }
        </Fetched>
        {orders.hasNextPage && (
          <div className="flex justify-center border-t p-2">
            <Button size="sm" busy={orders.isFetchingNextPage} onClick={() => void orders.fetchNextPage()}>
              {t('common.more')}
            </Button>
          </div>
        )}
      </Card>
      <Runs />
      {openId && <OrderDrawer id={openId} onClose={() => setOpenId(undefined)} hostName={hostName} />}
    </Page>
  );
}

/** Yes and no, for those who may and did not order it themselves. */
function Decide({ order }: { order: Order }) {
  const { t } = useTranslation();
  const may = useMay('approve');
  const own = useUser()?.username === order.created_by;
  const decide = useChange('responses', (approve: boolean) => api.decideResponse(order.id, approve));
  if (!may) return <TakeBack order={order} />;
  return (
    <span className="flex justify-end gap-2">
      {own ? (
        <TakeBack order={order} />
      ) : (
        <>
          <Button size="sm" icon={<X />} busy={decide.isPending} onClick={() => decide.mutate(false)}>
            {t('responses.decline')}
          </Button>
          <Button size="sm" variant="primary" icon={<Check />} busy={decide.isPending} onClick={() => decide.mutate(true)}>
            {t('responses.approve')}
          </Button>
        </>
      )}
    </span>
  );
}

/** Undo what was done, or cancel what was not sent yet. */
function TakeBack({ order }: { order: Order }) {
  const { t } = useTranslation();
  const may = useMay('respond');
  const undo = useChange('responses', () => api.undoResponse(order.id));
  const cancel = useChange('responses', () => api.cancelResponse(order.id));
  if (!may) return null;
  if (order.can_undo) {
    return (
      <Button size="sm" icon={<Undo2 />} busy={undo.isPending} onClick={() => undo.mutate(undefined)}>
        {t('responses.undo')}
      </Button>
    );
  }
  if (order.state !== 'pending' && order.state !== 'queued') return null;
  return (
    <Button size="sm" icon={<X />} busy={cancel.isPending} onClick={() => cancel.mutate(undefined)}>
      {t('common.cancel')}
    </Button>
  );
}
