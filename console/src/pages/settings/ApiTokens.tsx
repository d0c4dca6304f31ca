import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Plus, Trash2 } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Role } from '../../api/types';
import { Button, IconButton } from '../../design/Button';
import { Card } from '../../design/Card';
import { CopyButton } from '../../design/CopyButton';
import { Field, Input, Select } from '../../design/Field';
import { RawText } from '../../design/RawText';
import { EmptyState, Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { useToast } from '../../design/Toast';
import { ROLES } from '../words';
import { SimpleTable } from './SimpleTable';
import { useChange } from './use-change';

const LONGEST_DAYS = 366;

/** Tokens with which scripts use the API. */
export function ApiTokens() {
  const { t } = useTranslation();
  const client = useQueryClient();
  const toast = useToast();
  const [name, setName] = useState('');
  const [role, setRole] = useState<Role>('viewer');
  const [days, setDays] = useState('90');
  const tokens = useQuery({ queryKey: ['api-tokens'], queryFn: api.apiTokens });
  const create = useMutation({
    mutationFn: api.createApiToken,
    onSuccess: () => {
      setName('');
      return client.invalidateQueries({ queryKey: ['api-tokens'] });
    },
    onError: toast.failed,
  });
  const remove = useChange('api-tokens', api.deleteApiToken);

  function submit(event: FormEvent) {
    event.preventDefault();
    create.mutate({ name, role, ttl_days: Number(days) });
  }

  return (
    <div className="flex flex-col gap-4">
      <Card title={t('settings.newApiToken')}>
        <form onSubmit={submit} className="flex flex-wrap items-end gap-3">
          <div className="w-64">
            <Field label={t('settings.tokenName')}>
              <Input required maxLength={64} value={name} onChange={(event) => setName(event.target.value)} />
            </Field>
          </div>
          <div className="w-44">
            <Field label={t('settings.role')}>
              <Select value={role} onChange={(value) => setRole(value as Role)} options={ROLES.map((value) => ({ value, label: t(`role.${value}`) }))} />
            </Field>
          </div>
          <div className="w-28">
            <Field label={t('settings.days')}>
              <Input type="number" min={1} max={LONGEST_DAYS} required value={days} onChange={(event) => setDays(event.target.value)} />
            </Field>
          </div>
          <Button type="submit" variant="primary" icon={<Plus />} busy={create.isPending}>
            {t('settings.createToken')}
          </Button>
        </form>
        {create.data && (
          <div className="mt-4 rounded-md border border-accent bg-accent-soft p-3">
            <div className="mb-2 flex flex-wrap items-center justify-between gap-2">
              <p className="font-medium">{t('settings.shownOnce')}</p>
              <CopyButton text={create.data.token} />
            </div>
            <pre data-testid="api-token" className="rounded bg-surface px-3 py-2">
              <RawText text={create.data.token} />
            </pre>
          </div>
        )}
      </Card>
      <Card flush title={t('settings.tab.api-tokens')}>
        <Fetched query={tokens} rows={2}>
          {({ items }) =>
            items.length === 0 ? (
              <EmptyState title={t('settings.noTokens')} />
            ) : (
              <SimpleTable
                label={t('settings.tab.api-tokens')}
                head={[t('settings.tokenName'), t('settings.role'), t('settings.created'), t('settings.expires'), t('settings.lastUsed'), '']}
                rows={items.map((token) => ({
                  key: token.id,
                  faded: Date.parse(token.expires_at) < Date.now(),
                  cells: [
                    <span key="name" className="font-medium">
                      {token.name}
                    </span>,
                    t(`role.${token.role}`),
                    <span key="made">
                      <Time value={token.created_at} form="short" /> · {token.created_by}
                    </span>,
                    <Time key="end" value={token.expires_at} form="short" />,
                    <Time key="used" value={token.last_used_at} form="relative" />,
                    <span key="do" className="flex justify-end">
                      <IconButton label={t('settings.deleteToken', { name: token.name })} onClick={() => remove.mutate(token.id)}>
                        <Trash2 />
                      </IconButton>
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
