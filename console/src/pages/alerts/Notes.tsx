import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import type { AlertDetail } from '../../api/types';
import { useMay } from '../../app/session';
import { Button } from '../../design/Button';
import { Textarea } from '../../design/Field';
import { Time } from '../../design/Time';
import { useChangeAlert } from './Triage';

const LONGEST = 4000;

export function Notes({ alert }: { alert: AlertDetail }) {
  const { t } = useTranslation();
  const may = useMay('work_on_alerts');
  const change = useChangeAlert(alert.id);
  const [note, setNote] = useState('');
  return (
    <div className="flex flex-col gap-3">
      {alert.notes.length === 0 && <p className="text-faint">{t('alerts.noNotes')}</p>}
      <ul className="flex flex-col gap-3">
        {alert.notes.map((one) => (
          <li key={`${one.at} ${one.author}`}>
            <p className="text-xs text-muted">
              <span className="font-medium text-ink">{one.author}</span> · <Time value={one.at} form="short" />
            </p>
            <p className="whitespace-pre-wrap [overflow-wrap:anywhere]">{one.text}</p>
          </li>
        ))}
      </ul>
      {may && (
        <form
          className="flex flex-col gap-2"
          onSubmit={(event) => {
            event.preventDefault();
            if (note.trim()) change.mutate({ note: note.trim() }, { onSuccess: () => setNote('') });
          }}
        >
          <Textarea
            aria-label={t('alerts.newNote')}
            placeholder={t('alerts.newNote')}
            maxLength={LONGEST}
            value={note}
            onChange={(event) => setNote(event.target.value)}
          />
          <Button type="submit" size="sm" busy={change.isPending} disabled={!note.trim()} className="self-end">
            {t('alerts.addNote')}
          </Button>
        </form>
      )}
    </div>
  );
}
