import { useTranslation } from 'react-i18next';

import type { Ledger } from '../../api/types';
import { Badge } from '../../design/Badge';
import { Card } from '../../design/Card';
import { cx } from '../../design/cx';
import { formatNumber } from '../../i18n/format';
import { unaccounted } from './ledger';

/** produced = stored + on the way + dropped, as a sum and as a bar. */
export function LedgerCard({ ledger }: { ledger: Ledger }) {
  const { t, i18n } = useTranslation();
  const onTheWay = unaccounted(ledger);
  const lost = ledger.dropped + ledger.kernel_lost;
  const say = (value: number) => formatNumber(value, i18n.language);
  const whole = Math.max(1, ledger.produced);
  const parts = [
    { key: 'stored', value: ledger.stored, colour: 'bg-good' },
    { key: 'onTheWay', value: onTheWay, colour: 'bg-accent' },
    { key: 'dropped', value: ledger.dropped, colour: 'bg-bad' },
  ] as const;
  return (
    <Card
      title={t('hosts.ledger.title')}
      actions={
        onTheWay < 0 ? (
          <Badge tone="bad">{t('hosts.ledgerBroken')}</Badge>
        ) : ledger.unexplained > 0 ? (
          <Badge tone="bad">{t('hosts.unexplained', { total: say(ledger.unexplained) })}</Badge>
        ) : lost > 0 ? (
          <Badge tone="warn">{t('hosts.lost', { total: say(lost) })}</Badge>
        ) : (
          <Badge tone="good">{t('hosts.complete')}</Badge>
        )
      }
    >
      <div className="flex flex-wrap items-end gap-x-4 gap-y-2">
        <Figure label={t('hosts.ledger.produced')} value={say(ledger.produced)} />
        <Sign>=</Sign>
        {parts.map((part, index) => (
          <span key={part.key} className="flex items-end gap-4">
            {index > 0 && <Sign>+</Sign>}
            <Figure label={t(`hosts.ledger.${part.key}`)} value={say(part.value)} dot={part.colour} />
          </span>
        ))}
      </div>
      <div aria-hidden="true" className="mt-3 flex h-2 overflow-hidden rounded-full bg-sunken">
        {parts.map((part) => (
          <span key={part.key} className={part.colour} style={{ width: `${(Math.max(0, part.value) / whole) * 100}%` }} />
        ))}
      </div>
      <p className={cx('mt-3 text-xs', ledger.unexplained > 0 ? 'text-bad' : 'text-faint')}>
        {t('hosts.ledger.unexplained', { total: say(ledger.unexplained) })}
      </p>
      <p className={cx('mt-1 text-xs', ledger.kernel_lost > 0 ? 'text-warn' : 'text-faint')}>
        {t('hosts.ledger.kernelLost', { total: say(ledger.kernel_lost) })}
      </p>
    </Card>
  );
}

function Figure({ label, value, dot }: { label: string; value: string; dot?: string }) {
  return (
    <span className="flex flex-col">
      <span className="flex items-center gap-1.5 text-xs text-muted">
        {dot && <span aria-hidden="true" className={cx('size-2 rounded-sm', dot)} />}
        {label}
      </span>
      <span className="text-lg font-semibold tabular-nums">{value}</span>
    </span>
  );
}

function Sign({ children }: { children: string }) {
  return <span className="pb-0.5 text-lg text-faint">{children}</span>;
}
