import { useQuery } from '@tanstack/react-query';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { TimeChart } from '../../charts/LazyTimeChart';
import { Card } from '../../design/Card';
import { Page } from '../../design/Page';
import { Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { HostCards } from './HostCards';
import { RecentAlerts } from './RecentAlerts';
import { SeverityBars, TopRules } from './Rankings';
import { Tiles } from './Tiles';

const REFRESH_MS = 5_000;

export function DashboardPage() {
  const { t } = useTranslation();
  const dashboard = useQuery({ queryKey: ['dashboard'], queryFn: api.dashboard, refetchInterval: REFRESH_MS });

  return (
    <Page
      title={t('dashboard.title')}
      summary={
        dashboard.dataUpdatedAt > 0 && (
          <>
            {t('dashboard.updated')} <Time value={new Date(dashboard.dataUpdatedAt).toISOString()} form="full" />
          </>
        )
      }
    >
      <Fetched query={dashboard}>
        {(data) => (
          <>
            <Tiles data={data} />
            <div className="grid gap-4 lg:grid-cols-3">
              <Card title={t('dashboard.eventsPerMinute')} className="lg:col-span-2">
                <TimeChart
                  kind="area"
                  height={200}
                  label={t('dashboard.eventsPerMinute')}
                  points={data.events_per_minute.map((point) => ({ time: point.minute, count: point.count }))}
                />
              </Card>
              <Card title={t('dashboard.openBySeverity')}>
                <SeverityBars counts={data.alerts_by_severity} />
              </Card>
              <Card title={t('dashboard.alertsPerHour')} className="lg:col-span-2">
                <TimeChart
                  kind="bars"
                  tone="high"
                  height={200}
                  label={t('dashboard.alertsPerHour')}
                  points={data.alerts_per_hour.map((point) => ({ time: point.start, count: point.count }))}
                />
              </Card>
              <Card title={t('dashboard.topRules')}>
                <TopRules rules={data.top_rules} />
              </Card>
              <RecentAlerts alerts={data.recent_alerts} className="lg:col-span-2" />
              <HostCards />
            </div>
          </>
        )}
      </Fetched>
    </Page>
  );
}
