import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Plus, Trash2 } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { Badge } from '../../design/Badge';
import { Button, IconButton } from '../../design/Button';
import { Card } from '../../design/Card';
import { CopyButton } from '../../design/CopyButton';
import { Field, Input, Select } from '../../design/Field';
import { RawText } from '../../design/RawText';
import { EmptyState, Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { useToast } from '../../design/Toast';
import { SimpleTable } from './SimpleTable';
import { useChange } from './use-change';

const LIFETIMES_S = ['900', '3600', '28800', '86400'] as const;
const MOST_USES = 1000;

/** One command to paste on each host that is to join. */
export function Enrollment() {
  const { t } = useTranslation();
  const client = useQueryClient();
  const toast = useToast();
  const [lifetime, setLifetime] = useState('3600');
  const [uses, setUses] = useState('1');
  const tokens = useQuery({ queryKey: ['enrollment-tokens'], queryFn: api.enrollmentTokens });
  const create = useMutation({
    mutationFn: api.createEnrollmentToken,
    onSuccess: () => client.invalidateQueries({ queryKey: ['enrollment-tokens'] }),
    onError: toast.failed,
  });
  const remove = useChange('enrollment-tokens', api.deleteEnrollmentToken);

  function submit(event: FormEvent) {
    event.preventDefault();
    create.mutate({ ttl_seconds: Number(lifetime), uses: Number(uses) });
  }

  return (
    <div className="flex flex-col gap-4">
      <Card title={t('settings.enrollTitle')}>
        <p className="mb-3 max-w-2xl text-muted">{t('settings.enrollHint')}</p>
        <form onSubmit={submit} className="flex flex-wrap items-end gap-3">
          <div className="w-44">
            <Field label={t('settings.lifetime')}>
              <Select value={lifetime} onChange={setLifetime} options={LIFETIMES_S.map((value) => ({ value, label: t(`settings.lifetimes.${value}`) }))} />
            </Field>
          </div>
          <div className="w-32">
            <Field label={t('settings.uses')}>
              <Input type="number" min={1} max={MOST_USES} required value={uses} onChange={(event) => setUses(event.target.value)} />
            </Field>
          </div>
          <Button type="submit" variant="primary" icon={<Plus />} busy={create.isPending} data-testid="enrollment-create">
            {t('settings.createToken')}
          </Button>
        </form>
        {create.data && (
          <div className="mt-4 rounded-md border border-accent bg-accent-soft p-3">
            <Command title={t('settings.pasteThis')} text={create.data.command} testId="enrollment-command" />
            <Command title={t('settings.pasteThisWindows')} text={create.data.windows_command} testId="enrollment-command-windows" />
            <p className="mt-2 text-xs text-muted">
              {t('settings.shownOnce')} {t('settings.validUntil')} <Time value={create.data.expires_at} />
            </p>
          </div>
        )}
      </Card>
      <Card flush title={t('settings.openTokens')}>
        <Fetched query={tokens} rows={2}>
          {({ items }) =>
            items.length === 0 ? (
              <EmptyState title={t('settings.noTokens')} />
            ) : (
              <SimpleTable
                label={t('settings.openTokens')}
                head={[t('settings.created'), t('settings.createdBy'), t('settings.expires'), t('settings.used'), '']}
                rows={items.map((token) => ({
                  key: token.id,
                  faded: token.revoked || token.used >= token.uses || Date.parse(token.expires_at) < Date.now(),
                  cells: [
                    <Time key="made" value={token.created_at} form="short" />,
                    token.created_by,
                    <Time key="end" value={token.expires_at} form="short" />,
                    `${token.used} / ${token.uses}`,
                    <span key="do" className="flex justify-end">
                      {token.revoked ? (
                        <Badge tone="warn">{t('settings.takenBack')}</Badge>
                      ) : (
                        <IconButton label={t('settings.takeBack')} onClick={() => remove.mutate(token.id)}>
                          <Trash2 />
                        </IconButton>
                      )}
                    </span>,
                  ],
                }))}
              />
            )
          }
        </Fetched>
      </Card>
    </div>
  );
}

function Command({ title, text, testId }: { title: string; text: string; testId: string }) {
  return (
    <div className="mb-3">
      <div className="mb-2 flex flex-wrap items-center justify-between gap-2">
        <p className="font-medium">{title}</p>
        <CopyButton text={text} />
      </div>
      <pre data-testid={testId} className="rounded bg-surface px-3 py-2">
        <RawText text={text} />
      </pre>
    </div>
  );
}
