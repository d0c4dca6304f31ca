import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { TriangleAlert } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { Card } from '../../design/Card';

/** Rules that can never fire on the host, because nothing there tells of their events. Nothing where all can. */
export function CoverageCard({ hostId }: { hostId: string }) {
  const { t } = useTranslation();
  const coverage = useQuery({ queryKey: ['hosts', hostId, 'coverage'], queryFn: () => api.hostCoverage(hostId) });
  const rules = coverage.data?.rules_without_source ?? [];
  if (rules.length === 0) return null;
  return (
    <Card title={t('hosts.withoutSource', { count: rules.length })} testId="host-without-source">
      <ul className="flex max-h-72 flex-col gap-2 overflow-y-auto">
        {rules.map((rule) => (
          <li key={rule.id} className="flex gap-2 text-xs">
            <TriangleAlert aria-hidden="true" className="mt-0.5 size-4 shrink-0 text-warn" />
            <span className="min-w-0 [overflow-wrap:anywhere]">
              <Link to="/rules/$ruleId" params={{ ruleId: rule.id }} className="text-accent hover:underline">
                {rule.name}
              </Link>
              : {rule.reason}
            </span>
          </li>
        ))}
      </ul>
    </Card>
  );
}
