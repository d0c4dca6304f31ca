import { useQuery } from '@tanstack/react-query';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { IngestCounters as Counters } from '../../api/types';
import { Card } from '../../design/Card';
import { cx } from '../../design/cx';
import { Fetched } from '../../design/States';
import { formatNumber } from '../../i18n/format';

const ACCEPTED: (keyof Counters)[] = ['connected_agents', 'batches', 'records', 'duplicate_batches'];
const REFUSED: (keyof Counters)[] = [
  'bad_envelope',
  'malformed',
  'oversize',
  'wrong_agent',
  'bad_token',
  'bad_certificate',
  'revoked',
  'garbage_connections',
  'too_many_connections',
  'store_failures',
];

/** What came in since the server started, and what was refused. */
export function IngestCounters() {
  const { t } = useTranslation();
  const counters = useQuery({ queryKey: ['ingest'], queryFn: api.ingest, refetchInterval: 5_000 });
  return (
    <Fetched query={counters}>
      {(data) => (
        <div className="grid items-start gap-4 lg:grid-cols-2">
          <Card flush title={t('settings.refused')}>
            <CounterList names={REFUSED} counters={data} warn />
          </Card>
          <Card flush title={t('settings.accepted')}>
            <CounterList names={ACCEPTED} counters={data} />
          </Card>
        </div>
      )}
    </Fetched>
  );
}

function CounterList({ names, counters, warn }: { names: (keyof Counters)[]; counters: Counters; warn?: boolean }) {
  const { t, i18n } = useTranslation();
  return (
    <dl className="divide-y">
      {names.map((name) => (
        <div key={name} className="flex items-center justify-between gap-4 px-4 py-2">
          <dt>
            {t(`ingest.${name}.name`)}
            <span className="block text-xs text-faint">{t(`ingest.${name}.hint`)}</span>
          </dt>
          <dd data-testid={`ingest-${name}`} className={cx('text-base font-semibold tabular-nums', warn && counters[name] > 0 ? 'text-warn' : '')}>
            {formatNumber(counters[name], i18n.language)}
          </dd>
        </div>
      ))}
    </dl>
  );
}
