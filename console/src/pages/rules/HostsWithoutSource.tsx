import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { TriangleAlert } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';

const SHOWN = 5;

/** Where the rule can never fire, because nothing there tells of its events. Nothing where it can fire everywhere. */
export function HostsWithoutSource({ ruleId }: { ruleId: string }) {
  const { t } = useTranslation();
  const coverage = useQuery({ queryKey: ['rules', ruleId, 'coverage'], queryFn: () => api.ruleCoverage(ruleId) });
  const hosts = coverage.data?.hosts_without_source ?? [];
  if (hosts.length === 0) return null;
  const more = hosts.length - SHOWN;
  return (
    <div role="status" data-testid="rule-without-source" className="flex gap-2 rounded border border-warn px-3 py-2 text-xs">
      <TriangleAlert aria-hidden="true" className="mt-0.5 size-4 shrink-0 text-warn" />
      <span className="min-w-0 [overflow-wrap:anywhere]">
        {t('rules.withoutSource', { count: hosts.length, known: coverage.data?.known_hosts })}{' '}
        {hosts.slice(0, SHOWN).map((host) => (
          <span key={host.id} className="mr-2 inline-block">
            <Link to="/hosts/$hostId" params={{ hostId: host.id }} className="text-accent hover:underline">
              {host.name}
            </Link>{' '}
            ({host.reason})
          </span>
        ))}
        {more > 0 && t('rules.moreHosts', { count: more })}
      </span>
    </div>
  );
}
