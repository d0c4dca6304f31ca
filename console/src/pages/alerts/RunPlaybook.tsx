import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { useMay } from '../../app/session';
import { Button } from '../../design/Button';
import { Field, Input } from '../../design/Field';
import { useChange } from '../settings/use-change';

/** Asks for a run of a playbook for this alert. The dry run stands first: it says to the letter what the run would do. */
export function RunPlaybook({ alertId }: { alertId: string }) {
  const { t } = useTranslation();
  const may = useMay('respond');
  const [playbook, setPlaybook] = useState('');
  const run = useChange('playbook-runs', (dryRun: boolean) => api.requestPlaybookRun(alertId, playbook.trim(), dryRun));
  if (!may) return null;
  const cannot = !playbook.trim();
  return (
    <form
      className="flex flex-wrap items-end gap-2 border-b px-4 py-3"
      onSubmit={(event) => {
        event.preventDefault();
        if (!cannot) run.mutate(true);
      }}
    >
      <Field label={t('runs.playbookId')}>
        <Input className="w-64" maxLength={100} value={playbook} onChange={(event) => setPlaybook(event.target.value)} data-testid="playbook-id" />
      </Field>
      <Button type="submit" variant="primary" busy={run.isPending} disabled={cannot} data-testid="dry-run">
        {t('runs.doDry')}
      </Button>
      <Button variant="danger" busy={run.isPending} disabled={cannot} onClick={() => run.mutate(false)} data-testid="real-run">
        {t('runs.do')}
      </Button>
    </form>
  );
}
