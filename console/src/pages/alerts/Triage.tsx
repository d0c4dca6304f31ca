import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { AlertChange, AlertDetail, CloseReason } from '../../api/types';
import { useMay, useUser } from '../../app/session';
import { Button } from '../../design/Button';
import { Facts } from '../../design/Card';
import { Field, Input, Select } from '../../design/Field';
import { useToast } from '../../design/Toast';
import { CLOSE_REASONS } from '../words';

export function useChangeAlert(alertId: string) {
  const client = useQueryClient();
  const toast = useToast();
  return useMutation({
    mutationFn: (change: AlertChange) => api.changeAlert(alertId, change),
    onSuccess: () => client.invalidateQueries({ queryKey: ['alerts'] }),
    onError: toast.failed,
  });
}

/** Status, close reason and assignee. */
export function Triage({ alert }: { alert: AlertDetail }) {
  const { t } = useTranslation();
  const user = useUser();
  const may = useMay('work_on_alerts');
  const change = useChangeAlert(alert.id);
  const [closing, setClosing] = useState(false);
  const [reason, setReason] = useState<CloseReason>('true_positive');
  const [assignee, setAssignee] = useState<string | null>(null);

  if (!may) {
    return <Facts items={[[t('alerts.assignee'), alert.assignee ?? <span className="text-faint">{t('alerts.nobody')}</span>]]} />;
  }
  const mine = alert.assignee === user?.username;
  return (
    <div className="flex flex-col gap-3">
      <form
        className="flex items-end gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          change.mutate({ assignee: assignee ?? '' }, { onSuccess: () => setAssignee(null) });
        }}
      >
        <div className="min-w-0 flex-1">
          <Field label={t('alerts.assignee')}>
            <Input
              maxLength={64}
              placeholder={t('alerts.nobody')}
              value={assignee ?? alert.assignee ?? ''}
              onChange={(event) => setAssignee(event.target.value)}
            />
          </Field>
        </div>
        {assignee !== null ? (
          <Button type="submit" busy={change.isPending}>
            {t('common.save')}
          </Button>
        ) : (
          !mine && (
            <Button busy={change.isPending} onClick={() => change.mutate({ assignee: user?.username })}>
              {t('alerts.toMe')}
            </Button>
          )
        )}
      </form>
      {closing ? (
        <div className="flex flex-col gap-2 rounded-md border p-3">
          <Field label={t('alerts.closeReason')}>
            <Select
              data-testid="alert-close-reason"
              value={reason}
              onChange={(value) => setReason(value as CloseReason)}
              options={CLOSE_REASONS.map((value) => ({ value, label: t(`closeReason.${value}`) }))}
            />
          </Field>
          <div className="flex justify-end gap-2">
            <Button size="sm" variant="ghost" onClick={() => setClosing(false)}>
              {t('common.cancel')}
            </Button>
            <Button
              size="sm"
              variant="primary"
              busy={change.isPending}
              data-testid="alert-close-confirm"
              onClick={() => change.mutate({ status: 'closed', close_reason: reason }, { onSuccess: () => setClosing(false) })}
            >
              {t('alerts.close')}
            </Button>
          </div>
        </div>
      ) : (
        <div className="flex flex-wrap gap-2">
          {alert.status === 'new' && (
            <Button
              variant="primary"
              busy={change.isPending}
              data-testid="alert-start"
              onClick={() => change.mutate({ status: 'in_progress', ...(alert.assignee ? {} : { assignee: user?.username }) })}
            >
              {t('alerts.start')}
            </Button>
          )}
          {alert.status !== 'closed' && (
            <Button data-testid="alert-close" onClick={() => setClosing(true)}>
              {t('alerts.close')}…
            </Button>
          )}
          {alert.status === 'closed' && (
            <Button busy={change.isPending} data-testid="alert-reopen" onClick={() => change.mutate({ status: 'in_progress' })}>
              {t('alerts.reopen')}
            </Button>
          )}
        </div>
      )}
    </div>
  );
}
