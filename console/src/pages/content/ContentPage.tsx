import { getRouteApi, useNavigate } from '@tanstack/react-router';
import { useTranslation } from 'react-i18next';

import { Page } from '../../design/Page';
import { Tabs } from '../../design/Tabs';
import { Behaviours } from './Behaviours';
import { ContentFiles } from './ContentFiles';
import { CONTENT_KINDS, isContentKind } from './kinds';

const route = getRouteApi('/shell/content/{-$tab}');

/** What agents detect with besides rules: YARA files, lists of indicators, behaviours. */
export function ContentPage() {
  const { t } = useTranslation();
  const { tab } = route.useParams();
  const navigate = useNavigate();
  const current = isContentKind(tab) ? tab : 'yara';
  return (
    <Page title={t('nav.content')} summary={t('content.summary')}>
      <Tabs
        value={current}
        label={t('nav.content')}
        onChange={(id) => void navigate({ to: '/content/{-$tab}', params: { tab: id } })}
        tabs={CONTENT_KINDS.map((kind) => ({
          id: kind,
          label: t(`content.kind.${kind}`),
          testId: `content-${kind}`,
          content: (
            <div className="flex flex-col gap-4">
              <ContentFiles kind={kind} />
              {kind === 'behaviours' && <Behaviours />}
            </div>
          ),
        }))}
      />
    </Page>
  );
}
