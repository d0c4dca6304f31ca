import { useTranslation } from 'react-i18next';

import type { Order, OrderState, PlaybookRun, PlaybookRunState } from '../../api/types';
import { Badge, type Tone } from '../../design/Badge';
import { RawText } from '../../design/RawText';

const TONES: Record<OrderState, Tone> = {
  pending: 'warn',
  declined: 'neutral',
  queued: 'accent',
  sent: 'accent',
  applied: 'accent',
  planned: 'neutral',
  verified: 'good',
  failed: 'bad',
  refused: 'warn',
  approval_needed: 'warn',
  cancelled: 'neutral',
  expired: 'neutral',
};

/** Orders and runs end by themselves; nothing pushes them. */
export const LOOK_EVERY_MS = 5_000;

const RUN_TONES: Record<PlaybookRunState, Tone> = {
  requested: 'accent',
  running: 'accent',
  completed: 'good',
  stopped: 'bad',
  timed_out: 'bad',
  undone: 'neutral',
  abandoned: 'warn',
};

export function RunStateBadge({ run }: { run: PlaybookRun }) {
  const { t } = useTranslation();
  return (
    <span className="inline-flex gap-1">
      <Badge tone={RUN_TONES[run.state]} testId="run-state" state={run.state}>
        {t(`runs.state.${run.state}`)}
      </Badge>
      {run.undo_requested_by && <Badge tone="accent">{t('runs.undoing')}</Badge>}
    </span>
  );
}

/** In the order in which they are offered. */
export const ORDER_STATES = Object.keys(TONES) as OrderState[];

export function OrderStateBadge({ order }: { order: Order }) {
  const { t } = useTranslation();
  return (
    <Badge tone={TONES[order.state]} testId="order-state" state={order.state}>
      {t(`order.state.${order.state}`)}
    </Badge>
  );
}

/** What an action is aimed at, in a few characters. */
export function OrderTarget({ order }: { order: Order }) {
  const parameters = order.parameters as Record<string, unknown> | null;
  const named = ['path', 'address', 'unit', 'executable', 'entity_id'].map((key) => parameters?.[key]);
  const target = named.find((value): value is string => typeof value === 'string');
  return target ? <RawText text={target} className="font-normal text-muted" /> : null;
}
