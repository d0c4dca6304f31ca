import { getRouteApi, useNavigate } from '@tanstack/react-router';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import { useMay } from '../../app/session';
import { Page } from '../../design/Page';
import { Tabs } from '../../design/Tabs';
import { ApiTokens } from './ApiTokens';
import { Audit } from './Audit';
import { Enrollment } from './Enrollment';
import { IngestCounters } from './IngestCounters';
import { KeysAndCertificates } from './KeysAndCertificates';
import { Retention } from './Retention';
import { Users } from './Users';

const route = getRouteApi('/shell/settings/{-$tab}');

type TabId = 'users' | 'enrollment' | 'api-tokens' | 'retention' | 'keys' | 'ingest' | 'audit';

export function SettingsPage() {
  const { t } = useTranslation();
  const { tab } = route.useParams();
  const navigate = useNavigate();
  const mayAdminister = useMay('administer');
  const mayReadAudit = useMay('read_audit');

  const tabs: { id: TabId; shown: boolean; content: ReactNode }[] = [
    { id: 'users', shown: mayAdminister, content: <Users /> },
    { id: 'enrollment', shown: mayAdminister, content: <Enrollment /> },
    { id: 'api-tokens', shown: mayAdminister, content: <ApiTokens /> },
    { id: 'retention', shown: true, content: <Retention /> },
    { id: 'keys', shown: true, content: <KeysAndCertificates /> },
    { id: 'ingest', shown: true, content: <IngestCounters /> },
    { id: 'audit', shown: mayReadAudit, content: <Audit /> },
  ];
  const shown = tabs.filter((one) => one.shown);
  const current = shown.find((one) => one.id === tab) ?? shown[0];
  if (!current) return null;
  return (
    <Page title={t('nav.settings')}>
      <Tabs
        value={current.id}
        label={t('nav.settings')}
        onChange={(id) => void navigate({ to: '/settings/{-$tab}', params: { tab: id } })}
        tabs={shown.map(({ id, content }) => ({ id, content, label: t(`settings.tab.${id}`), testId: `settings-${id}` }))}
      />
    </Page>
  );
}
