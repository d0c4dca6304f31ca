import { useQuery } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Settings } from '../../api/types';
import { useMay } from '../../app/session';
import { Button } from '../../design/Button';
import { Card } from '../../design/Card';
import { Field, Input } from '../../design/Field';
import { Fetched } from '../../design/States';
import { useToast } from '../../design/Toast';
import { useChange } from './use-change';

const LONGEST_DAYS = 3650;

export function Retention() {
  const { t } = useTranslation();
  const settings = useQuery({ queryKey: ['settings'], queryFn: api.settings });
  return (
    <Card title={t('settings.tab.retention')} className="max-w-2xl">
      <Fetched query={settings} rows={2}>
        {(data) => <RetentionForm key={JSON.stringify(data)} settings={data} />}
      </Fetched>
    </Card>
  );
}

function RetentionForm({ settings }: { settings: Settings }) {
  const { t } = useTranslation();
  const toast = useToast();
  const may = useMay('administer');
  const [events, setEvents] = useState(String(settings.events_retention_days));
  const [alerts, setAlerts] = useState(String(settings.alerts_retention_days));
  const save = useChange('settings', api.saveSettings);

  function submit(event: FormEvent) {
    event.preventDefault();
    save.mutate(
      { ...settings, events_retention_days: Number(events), alerts_retention_days: Number(alerts) },
      { onSuccess: () => toast.done(t('settings.saved')) },
    );
  }
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      <div className="grid gap-4 sm:grid-cols-2">
        <Field label={t('settings.eventsDays')} hint={t('settings.eventsDaysHint')}>
          <Input type="number" min={1} max={LONGEST_DAYS} required disabled={!may} value={events} onChange={(event) => setEvents(event.target.value)} />
        </Field>
        <Field label={t('settings.alertsDays')} hint={t('settings.alertsDaysHint')}>
          <Input type="number" min={1} max={LONGEST_DAYS} required disabled={!may} value={alerts} onChange={(event) => setAlerts(event.target.value)} />
        </Field>
      </div>
      {may && (
        <Button type="submit" variant="primary" busy={save.isPending} className="self-start">
          {t('common.save')}
        </Button>
      )}
    </form>
  );
}
