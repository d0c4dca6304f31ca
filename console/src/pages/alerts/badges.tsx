import { CircleAlert, CircleCheck, CircleDashed, CircleDot, CircleSlash, Clock } from 'lucide-react';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import type { AlertStatus, ReceiptState, ResponseReceipt } from '../../api/types';
import { Badge, type Tone } from '../../design/Badge';

const STATUS: Record<AlertStatus, { tone: Tone; icon: ReactNode }> = {
  new: { tone: 'bad', icon: <CircleDot aria-hidden="true" /> },
  in_progress: { tone: 'accent', icon: <Clock aria-hidden="true" /> },
  closed: { tone: 'neutral', icon: <CircleCheck aria-hidden="true" /> },
};

export function AlertStatusBadge({ status }: { status: AlertStatus }) {
  const { t } = useTranslation();
  return (
    <Badge tone={STATUS[status].tone} icon={STATUS[status].icon} testId="alert-status" state={status}>
      {t(`status.${status}`)}
    </Badge>
  );
}

const RECEIPT: Record<ReceiptState, { tone: Tone; icon: ReactNode }> = {
  sent: { tone: 'accent', icon: <CircleDashed aria-hidden="true" /> },
  applied: { tone: 'accent', icon: <CircleDot aria-hidden="true" /> },
  verified: { tone: 'good', icon: <CircleCheck aria-hidden="true" /> },
  failed: { tone: 'bad', icon: <CircleAlert aria-hidden="true" /> },
  refused: { tone: 'warn', icon: <CircleSlash aria-hidden="true" /> },
  approval_needed: { tone: 'warn', icon: <Clock aria-hidden="true" /> },
};

export function ReceiptBadge({ state }: { state: ReceiptState }) {
  const { t } = useTranslation();
  return (
    <Badge tone={RECEIPT[state].tone} icon={RECEIPT[state].icon} testId="receipt-state" state={state}>
      {t(`receipt.${state}`)}
    </Badge>
  );
}

const WORST_FIRST: ReceiptState[] = ['failed', 'approval_needed', 'refused', 'sent', 'applied', 'verified'];

/** What was done about an alert, in one badge: of several receipts the worst. */
export function ResponseBadge({ responses }: { responses: ResponseReceipt[] }) {
  const { t } = useTranslation();
  const worst = WORST_FIRST.map((state) => responses.find((response) => response.state === state)).find(Boolean);
  if (!worst) return null;
  return (
    <Badge tone={RECEIPT[worst.state].tone} icon={RECEIPT[worst.state].icon} title={worst.reason}>
      {t(`action.${worst.action as 'alert'}`)} · {t(`receipt.${worst.state}`)}
    </Badge>
  );
}
