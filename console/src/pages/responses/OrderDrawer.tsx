import { useMutation, useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Order } from '../../api/types';
import { useMay } from '../../app/session';
import { Button } from '../../design/Button';
import { Facts } from '../../design/Card';
import { ConfirmDialog, Dialog } from '../../design/Dialog';
import { Field, Input } from '../../design/Field';
import { RawText } from '../../design/RawText';
import { Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { useToast } from '../../design/Toast';
import { useChange } from '../settings/use-change';
import { OrderStateBadge, OrderTarget } from './words';

interface OrderDrawerProps {
  id: string;
  onClose: () => void;
  hostName: (id: string) => string;
}

/** One order with all that is known of it: who agreed, what was planned, what was done, the proof. */
export function OrderDrawer({ id, onClose, hostName }: OrderDrawerProps) {
  const { t } = useTranslation();
  const order = useQuery({ queryKey: ['responses', 'one', id], queryFn: () => api.response(id) });
  return (
    <Dialog open onClose={onClose} kind="drawer" title={t('responses.order')} testId="response-drawer">
      <Fetched query={order}>{(found) => <Detail order={found} hostName={hostName} />}</Fetched>
    </Dialog>
  );
}

function Detail({ order, hostName }: { order: Order; hostName: (id: string) => string }) {
  const { t } = useTranslation();
  const result = order.result === null ? undefined : JSON.stringify(order.result, null, 2);
  return (
    <div className="flex flex-col gap-5">
      <Facts
        items={[
          [t('responses.what'), <span key="what">{t(`order.action.${order.action}`)} <OrderTarget order={order} /></span>],
          [t('responses.host'), hostName(order.host_id)],
          [t('responses.state'), <span key="state"><OrderStateBadge order={order} /> <Time value={order.state_at} form="short" /></span>],
          [t('responses.orderedBy'), <span key="by"><RawText text={order.created_by} /> · <Time value={order.created_at} form="short" /></span>],
          [t('responses.why'), <RawText key="why" text={order.comment} />],
          [t('responses.proof'), <RawText key="proof" text={order.reason} />],
          [t('responses.expires'), <Time key="end" value={order.expires_at} form="short" />],
        ]}
      />
      <DeleteQuarantined order={order} />
      {order.action === 'isolate_host' && !order.dry_run && <ReleaseCode id={order.id} />}
      {order.alert_id && (
        <Link to="/alerts/$alertId" params={{ alertId: order.alert_id }} className="text-accent hover:underline">
          {t('responses.alert')}
        </Link>
      )}
      {order.decisions.length > 0 && (
        <section>
          <h3 className="mb-1 font-medium">{t('responses.approvals')}</h3>
          <ul>
            {order.decisions.map((one) => (
              <li key={one.by}>
                <RawText text={one.by} /> · {one.approve ? t('responses.approved') : t('responses.declined')} · <Time value={one.at} form="short" />{' '}
                <RawText text={one.comment} className="text-muted" />
              </li>
            ))}
          </ul>
        </section>
      )}
      <Lines title={t('responses.plan')} lines={order.plan} />
      <Lines title={t('responses.steps')} lines={order.steps.map((step) => step.what)} />
      {result && (
        <section>
          <h3 className="mb-1 font-medium">{t('responses.result')}</h3>
          <pre className="max-h-96 overflow-auto rounded bg-sunken p-3 text-xs">
            <RawText text={result} />
          </pre>
        </section>
      )}
    </div>
  );
}

/** Empties the vault of one file. Nothing brings it back, so it is asked for twice. */
function DeleteQuarantined({ order }: { order: Order }) {
  const { t } = useTranslation();
  const may = useMay('respond');
  const [asks, setAsks] = useState(false);
  const [why, setWhy] = useState('');
  const remove = useChange('responses', () => api.deleteQuarantined(order.host_id, order.id, why));
  if (!may || order.action !== 'quarantine_file' || !order.can_undo || remove.isSuccess) return null;
  return (
    <>
      <Button className="self-start" variant="danger" busy={remove.isPending} onClick={() => setAsks(true)}>
        {t('responses.deleteQuarantined')}
      </Button>
      <ConfirmDialog
        open={asks}
        onClose={() => setAsks(false)}
        title={t('responses.deleteQuarantined')}
        confirmLabel={t('responses.deleteQuarantined')}
        onConfirm={() => remove.mutate(undefined, { onSettled: () => setAsks(false) })}
        busy={remove.isPending}
      >
        <div className="flex flex-col gap-3">
          <p>{t('responses.deleteHint')}</p>
          <Field label={t('responses.deleteWhy')}>
            <Input value={why} onChange={(event) => setWhy(event.target.value)} maxLength={1000} required />
          </Field>
        </div>
      </ConfirmDialog>
    </>
  );
}

/** What lets the host go on the spot. That it was read is in the audit log, so it is asked for. */
function ReleaseCode({ id }: { id: string }) {
  const { t } = useTranslation();
  const may = useMay('respond');
  const toast = useToast();
  const code = useMutation({ mutationFn: () => api.releaseCode(id), onError: toast.failed });
  if (!may) return null;
  if (code.data) {
    return (
      <p className="rounded-md border border-accent bg-accent-soft p-3">
        {t('responses.releaseHint')} <RawText text={`edr-agent -release ${code.data.code}`} className="font-mono" />
      </p>
    );
  }
  return (
    <Button className="self-start" busy={code.isPending} onClick={() => code.mutate()}>
      {t('responses.releaseCode')}
    </Button>
  );
}

function Lines({ title, lines }: { title: string; lines: string[] }) {
  if (lines.length === 0) return null;
  return (
    <section>
      <h3 className="mb-1 font-medium">{title}</h3>
      <ol className="list-decimal pl-5">
        {lines.map((line, index) => (
          <li key={index} className="[overflow-wrap:anywhere]">
            <RawText text={line} />
          </li>
        ))}
      </ol>
    </section>
  );
}
