import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { AlertChange } from '../../api/types';
import { useUser } from '../../app/session';
import { Button } from '../../design/Button';
import { Menu } from '../../design/Menu';
import { useToast } from '../../design/Toast';
import { CLOSE_REASONS } from '../words';

/** Changes all chosen alerts. One that fails is reported; the others stay changed. */
export function BulkBar({ ids, onDone }: { ids: string[]; onDone: () => void }) {
  const { t } = useTranslation();
  const user = useUser();
  const toast = useToast();
  const client = useQueryClient();
  const apply = useMutation({
    mutationFn: async (change: AlertChange) => {
      const results = await Promise.allSettled(ids.map((id) => api.changeAlert(id, change)));
      const failed = results.find((result) => result.status === 'rejected');
      if (failed) toast.failed(failed.reason);
      return results.filter((result) => result.status === 'fulfilled').length;
    },
    onSuccess: async (count) => {
      if (count > 0) toast.done(t('alerts.changed', { count }));
      onDone();
      await client.invalidateQueries({ queryKey: ['alerts'] });
    },
  });

  return (
    <div role="toolbar" aria-label={t('alerts.bulk')} className="flex flex-wrap items-center gap-2 rounded-md bg-accent-soft px-3 py-2">
      <span className="mr-2 font-medium">{t('alerts.chosen', { count: ids.length })}</span>
      <Button size="sm" busy={apply.isPending} onClick={() => apply.mutate({ status: 'in_progress', assignee: user?.username })}>
        {t('alerts.takeOver')}
      </Button>
      <Menu
        trigger={
          <Button size="sm" busy={apply.isPending}>
            {t('alerts.closeAs')}
          </Button>
        }
        items={CLOSE_REASONS.map((reason) => ({
          label: t(`closeReason.${reason}`),
          onSelect: () => apply.mutate({ status: 'closed', close_reason: reason }),
        }))}
      />
      <Button size="sm" busy={apply.isPending} onClick={() => apply.mutate({ status: 'new' })}>
        {t('alerts.reopen')}
      </Button>
      <Button size="sm" variant="ghost" onClick={onDone}>
        {t('alerts.chooseNone')}
      </Button>
    </div>
  );
}
