import { Link } from '@tanstack/react-router';
import { useTranslation } from 'react-i18next';

import type { ReceiptState, ResponseMode, ResponseReceipt } from '../../api/types';
import { cx } from '../../design/cx';
import { RawText } from '../../design/RawText';
import { Time } from '../../design/Time';
import { ReceiptBadge } from './badges';

interface ResponsesProps {
  responses: ResponseReceipt[];
  mode: ResponseMode;
  detectedAt: string;
}

/** Each response with how far it came, and its steps with the time since the detection. */
export function Responses({ responses, mode, detectedAt }: ResponsesProps) {
  const { t } = useTranslation();
  if (responses.length === 0) {
    return <p className="text-muted">{mode === 'auto' ? t('alerts.noResponseAuto') : t('alerts.noResponse', { mode: t(`mode.${mode}`) })}</p>;
  }
  return (
    <ul className="flex flex-col gap-5">
      {responses.map((response) => (
        <li key={response.id}>
          <div className="flex flex-wrap items-center gap-x-2.5 gap-y-1">
            <span className="font-medium">{t(`action.${response.action as 'alert'}`)}</span>
            <ReceiptBadge state={response.state} />
            <Progress state={response.state} />
          </div>
          {response.state === 'approval_needed' && (
            <Link to="/responses" search={{ state: 'pending' }} className="mt-1 inline-block text-accent hover:underline">
              {t('alerts.decide')}
            </Link>
          )}
          {response.reason && <p className="mt-1 text-muted [overflow-wrap:anywhere]">{response.reason}</p>}
          <p className="mt-1 text-xs text-faint">
            {t('alerts.target')} <RawText text={response.target.executable} />
          </p>
          <ol className="mt-2 ml-1.5 border-l-2 border-line">
            {response.steps.map((step, index) => (
              <li key={index} className="relative flex flex-wrap items-baseline gap-x-3 py-1 pl-4">
                <span
                  aria-hidden="true"
                  className={cx(
                    'absolute top-2.5 -left-[5px] size-2 rounded-full',
                    index === response.steps.length - 1 ? LAST_STEP[response.state] : 'bg-line-strong',
                  )}
                />
                <span className="text-xs text-muted">
                  <Time value={step.at} form="precise" />
                </span>
                <span className="text-xs text-faint tabular-nums">{since(detectedAt, step.at)}</span>
                <span className="[overflow-wrap:anywhere]">{step.what}</span>
              </li>
            ))}
          </ol>
        </li>
      ))}
    </ul>
  );
}

const LAST_STEP: Record<ReceiptState, string> = {
  sent: 'bg-accent',
  applied: 'bg-accent',
  verified: 'bg-good',
  failed: 'bg-bad',
  refused: 'bg-warn',
  approval_needed: 'bg-warn',
};

const ROAD: ReceiptState[] = ['sent', 'applied', 'verified'];

/** sent → applied → verified, as far as it came. */
function Progress({ state }: { state: ReceiptState }) {
  const { t } = useTranslation();
  const reached = ROAD.indexOf(state);
  if (reached < 0) return null;
  return (
    <ol className="flex items-center gap-1 text-2xs text-faint" aria-hidden="true">
      {ROAD.map((one, index) => (
        <li key={one} className={cx('flex items-center gap-1', index <= reached && 'text-good')}>
          {index > 0 && <span>→</span>}
          {t(`receipt.${one}`)}
        </li>
      ))}
    </ol>
  );
}

/** `+12.3 ms`; times have nanoseconds, more than a Date keeps. */
function since(from: string, to: string): string {
  const milliseconds = Number(nanoseconds(to) - nanoseconds(from)) / 1e6;
  if (!Number.isFinite(milliseconds)) return '';
  const sign = milliseconds < 0 ? '−' : '+';
  const size = Math.abs(milliseconds);
  return size < 1000 ? `${sign}${size.toFixed(1)} ms` : `${sign}${(size / 1000).toFixed(2)} s`;
}

function nanoseconds(time: string): bigint {
  const fraction = /\.(\d+)/.exec(time)?.[1] ?? '';
  const seconds = Math.floor(Date.parse(time) / 1000);
  return Number.isNaN(seconds) ? 0n : BigInt(seconds) * 1_000_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, '0'));
}
