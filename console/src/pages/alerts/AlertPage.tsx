import { useQuery } from '@tanstack/react-query';
import { Link, getRouteApi } from '@tanstack/react-router';
import { ChevronRight } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { AlertDetail } from '../../api/types';
import { Badge } from '../../design/Badge';
import { Card, Facts } from '../../design/Card';
import { Page } from '../../design/Page';
import { RawText } from '../../design/RawText';
import { SeverityBadge, SeverityIcon } from '../../design/Severity';
import { Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { EventDetail } from '../events/EventDetail';
import { Runs } from '../responses/Runs';
import { AlertStatusBadge } from './badges';
import { Notes } from './Notes';
import { ProcessAncestry } from './ProcessAncestry';
import { Responses } from './Responses';
import { RunPlaybook } from './RunPlaybook';
import { Triage } from './Triage';
import { WhatHappened } from './WhatHappened';

const route = getRouteApi('/shell/alerts/$alertId');

export function AlertPage() {
  const { alertId } = route.useParams();
  const alert = useQuery({ queryKey: ['alerts', 'one', alertId], queryFn: () => api.alert(alertId) });
  return <Fetched query={alert}>{(data) => <OneAlert alert={data} />}</Fetched>;
}

function OneAlert({ alert }: { alert: AlertDetail }) {
  const { t } = useTranslation();
  return (
    <Page
      title={
        <span className="flex flex-wrap items-center gap-x-2.5 gap-y-1">
          <span className="flex items-center gap-1 font-normal text-muted">
            <Link to="/alerts" search={{}} className="hover:underline">
              {t('nav.alerts')}
            </Link>
            <ChevronRight aria-hidden="true" className="size-4" />
          </span>
          <SeverityIcon severity={alert.rule.severity} className="size-5" />
          {alert.rule.name}
          <AlertStatusBadge status={alert.status} />
          {alert.close_reason && <Badge>{t(`closeReason.${alert.close_reason}`)}</Badge>}
        </span>
      }
      summary={
        <span className="flex flex-wrap items-center gap-x-2">
          <SeverityBadge severity={alert.rule.severity} />
          <span aria-hidden="true">·</span>
          <Time value={alert.time} />
          {alert.count > 1 && (
            <>
              <span aria-hidden="true">·</span>
              <span>
                {t('alerts.repeated', { count: alert.count })} <Time value={alert.last_time} form="relative" />
              </span>
            </>
          )}
        </span>
      }
    >
      <div className="grid items-start gap-4 lg:grid-cols-[minmax(0,1fr)_21rem]">
        <div className="flex min-w-0 flex-col gap-4">
          <WhatHappened alert={alert} />
          <Card title={t('alerts.ancestry')} testId="process-ancestry">
            <ProcessAncestry ancestry={alert.ancestry} hostId={alert.host_id} />
          </Card>
          <Card title={t('alerts.responses')}>
            <Responses responses={alert.responses} mode={alert.rule.mode} detectedAt={alert.time} />
          </Card>
          <Runs alertId={alert.id}>
            <RunPlaybook alertId={alert.id} />
          </Runs>
          <Card title={t('alerts.event')} flush>
            <EventDetail event={alert.event} />
          </Card>
        </div>
        <div className="flex min-w-0 flex-col gap-4">
          <Card title={t('alerts.triage')}>
            <Triage alert={alert} />
          </Card>
          <Card title={t('alerts.notes')}>
            <Notes alert={alert} />
          </Card>
          <RuleCard alert={alert} />
        </div>
      </div>
    </Page>
  );
}

function RuleCard({ alert }: { alert: AlertDetail }) {
  const { t } = useTranslation();
  return (
    <Card
      title={t('alerts.rule')}
      actions={
        <Link to="/rules/$ruleId" params={{ ruleId: alert.rule.id }} className="text-accent hover:underline">
          {t('alerts.openRule')}
        </Link>
      }
    >
      {alert.rule.description && <p className="mb-3 text-muted [overflow-wrap:anywhere]">{alert.rule.description}</p>}
      <Facts
        items={[
          [t('rules.id'), <span key="id" className="font-mono text-xs">{alert.rule.id}</span>],
          [t('rules.mode'), t(`mode.${alert.rule.mode}`)],
          [
            'ATT&CK',
            alert.rule.attack.length === 0 ? (
              <span key="none" className="text-faint">–</span>
            ) : (
              <span key="attack" className="flex flex-wrap gap-1">
                {alert.rule.attack.map((technique) => (
                  <Badge key={technique}>{technique}</Badge>
                ))}
              </span>
            ),
          ],
        ]}
      />
      <p className="mt-3 text-xs font-medium text-muted">{t('alerts.matched')}</p>
      <ul className="mt-1 flex flex-col gap-1">
        {alert.matched.map((condition) => (
          <li key={condition} className="rounded bg-sunken px-2 py-1">
            <RawText text={condition} />
          </li>
        ))}
      </ul>
      <Link to="/alerts" search={{ rule: alert.rule.id }} className="mt-3 inline-block text-xs text-accent hover:underline">
        {t('alerts.sameRule')}
      </Link>
    </Card>
  );
}
