import { useQuery } from '@tanstack/react-query';
import { CircleCheck, TriangleAlert } from 'lucide-react';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { Badge } from '../../design/Badge';
import { Card } from '../../design/Card';
import { Fetched } from '../../design/States';
import { type SourceLine, bySource } from './sources';

/** Where the host's events come from, and which of them can't be had there and why, as its agent said at its start. */
export function SourcesCard({ hostId }: { hostId: string }) {
  const { t } = useTranslation();
  const coverage = useQuery({ queryKey: ['hosts', hostId, 'coverage'], queryFn: () => api.hostCoverage(hostId) });
  return (
    <Card title={t('hosts.sources.title')} testId="host-sources">
      <Fetched query={coverage} rows={3}>
        {(data) => (data.known ? <Sources lines={data.sources} /> : <p className="text-muted">{t('hosts.sources.unknown')}</p>)}
      </Fetched>
    </Card>
  );
}

function Sources({ lines }: { lines: string[] }) {
  const { t } = useTranslation();
  const { running, missing } = bySource(lines);
  return (
    <div className="flex max-h-96 flex-col gap-4 overflow-y-auto">
      {missing.length > 0 && (
        <Lines
          title={t('hosts.sources.missing')}
          lines={missing}
          testId="source-missing"
          icon={<TriangleAlert aria-hidden="true" className="mt-0.5 size-4 shrink-0 text-warn" />}
        />
      )}
      <Lines
        title={t('hosts.sources.running')}
        lines={running}
        testId="source-running"
        icon={<CircleCheck aria-hidden="true" className="mt-0.5 size-4 shrink-0 text-good" />}
      />
    </div>
  );
}

interface LinesProps {
  title: string;
  lines: SourceLine[];
  testId: string;
  icon: ReactNode;
}

function Lines({ title, lines, testId, icon }: LinesProps) {
  const { t, i18n } = useTranslation();
  const word = (type: string) => {
    const key = `eventType.${type}`;
    return i18n.exists(key) ? t(key as 'eventType.gap') : type;
  };
  return (
    <section>
      <h3 className="mb-1.5 text-xs font-medium text-muted">{title}</h3>
      <ul className="flex flex-col gap-2">
        {lines.map(({ text, types }) => (
          <li key={text} className="flex gap-2 text-xs" data-testid={testId} data-types={types.join(' ')}>
            {icon}
            <div className="min-w-0">
              <p className="[overflow-wrap:anywhere]">{text || '–'}</p>
              <p className="mt-1 flex flex-wrap gap-1">
                {types.map((type) => (
                  <Badge key={type} tone="neutral">
                    {word(type)}
                  </Badge>
                ))}
              </p>
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}
