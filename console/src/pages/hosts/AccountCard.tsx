import { useQuery } from '@tanstack/react-query';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { HostAccount } from '../../api/types';
import { Badge } from '../../design/Badge';
import { Card } from '../../design/Card';
import { cx } from '../../design/cx';
import { EmptyState, Fetched } from '../../design/States';
import { formatNumber } from '../../i18n/format';
import { balance } from './ledger';

/** For each kind of record: produced = stored + dropped, and what is left of that equation. */
export function AccountCard({ hostId }: { hostId: string }) {
  const { t } = useTranslation();
  const account = useQuery({
    queryKey: ['hosts', hostId, 'account'],
    queryFn: () => api.hostAccount(hostId),
    refetchInterval: 15_000,
  });
  return (
    <Card flush title={t('hosts.account.title')} actions={account.data && <Verdict account={account.data} />}>
      <Fetched query={account}>
        {(data) => (data.kinds.length === 0 ? <EmptyState title={t('hosts.account.none')} /> : <Kinds account={data} />)}
      </Fetched>
    </Card>
  );
}

function Verdict({ account }: { account: HostAccount }) {
  const { t } = useTranslation();
  const state = balance(account.kinds);
  if (state === 'empty') return null;
  const tone = { even: 'good', onTheWay: 'accent', broken: 'bad' } as const;
  return (
    <Badge tone={tone[state]} testId="account-state" state={state}>
      {t(`hosts.account.state.${state}`)}
    </Badge>
  );
}

function Kinds({ account }: { account: HostAccount }) {
  const { t, i18n } = useTranslation();
  const say = (value: number) => formatNumber(value, i18n.language);
  return (
    <div className="overflow-x-auto">
      <table className="w-full text-left" data-testid="account">
        <thead className="text-xs text-muted">
          <tr className="border-b">
            <th className="px-4 py-1.5 font-medium">{t('hosts.account.kind')}</th>
            <th className="px-4 py-1.5 text-right font-medium">{t('hosts.ledger.produced')}</th>
            <th className="px-4 py-1.5 text-right font-medium">{t('hosts.ledger.stored')}</th>
            <th className="px-4 py-1.5 font-medium">{t('hosts.ledger.dropped')}</th>
            <th className="px-4 py-1.5 text-right font-medium">{t('hosts.account.difference')}</th>
          </tr>
        </thead>
        <tbody className="divide-y">
          {account.kinds.map((row) => (
            <tr key={row.kind}>
              <td className="px-4 py-1.5 font-mono text-xs">{row.kind}</td>
              <td className="px-4 py-1.5 text-right tabular-nums">{say(row.produced)}</td>
              <td className="px-4 py-1.5 text-right tabular-nums">{say(row.stored)}</td>
              <td className="px-4 py-1.5">
                <span className="flex flex-wrap gap-1">
                  {row.dropped.map(({ reason, count }) => (
                    <Badge key={reason} tone="warn">
                      <span className="font-mono">{reason}</span> {say(count)}
                    </Badge>
                  ))}
                </span>
              </td>
              <td className={cx('px-4 py-1.5 text-right tabular-nums', row.difference === 0 ? 'text-faint' : 'font-semibold text-bad')}>
                {say(row.difference)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
