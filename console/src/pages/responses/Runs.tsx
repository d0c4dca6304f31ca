import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { Badge } from '../../design/Badge';
import { Card } from '../../design/Card';
import { RawText } from '../../design/RawText';
import { EmptyState, Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { SimpleTable } from '../settings/SimpleTable';
import { RunDrawer } from './RunDrawer';
import { LOOK_EVERY_MS, RunStateBadge } from './words';

interface RunsProps {
  /** Only those of this alert. */
  alertId?: string;
  /** What stands above the list. */
  children?: React.ReactNode;
}

/** Runs of playbooks, and one of them in a drawer. */
export function Runs({ alertId, children }: RunsProps) {
  const { t } = useTranslation();
  const [openId, setOpenId] = useState<string>();
  const runs = useQuery({
    queryKey: ['playbook-runs', 'list', alertId],
    queryFn: () => api.playbookRuns({ alert: alertId }),
    refetchInterval: LOOK_EVERY_MS,
  });
  return (
    <Card flush title={t('runs.title')} testId="playbook-runs">
      {children}
      <Fetched query={runs} rows={2}>
        {({ items }) =>
          items.length === 0 ? (
            <EmptyState title={t('runs.none')} />
          ) : (
            <SimpleTable
              label={t('runs.title')}
              head={[t('runs.playbook'), ...(alertId ? [] : [t('runs.alert')]), t('runs.begun'), t('responses.state'), t('runs.steps')]}
              rows={items.map((run) => ({
                key: run.id,
                cells: [
                  <button key="run" type="button" className="text-left font-medium hover:underline" onClick={() => setOpenId(run.id)}>
                    <RawText text={run.name || run.playbook} /> {run.dry_run && <Badge>{t('runs.dry')}</Badge>}
                  </button>,
                  ...(alertId
                    ? []
                    : [
                        <Link key="alert" to="/alerts/$alertId" params={{ alertId: run.alert_id }} className="text-accent hover:underline">
                          {t('runs.openAlert')}
                        </Link>,
                      ]),
                  <span key="begun">
                    <RawText text={run.requested_by || t('runs.byAlert')} /> · <Time value={run.requested_at} form="short" />
                  </span>,
                  <RunStateBadge key="state" run={run} />,
                  <span key="steps" className="tabular-nums">
                    {t('runs.stepCount', { done: run.steps.filter((step) => step.outcome !== null).length, all: run.steps.length })}
                  </span>,
                ],
              }))}
            />
          )
        }
      </Fetched>
      {openId && <RunDrawer id={openId} onClose={() => setOpenId(undefined)} />}
    </Card>
  );
}
