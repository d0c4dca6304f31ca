import { useQuery } from '@tanstack/react-query';
import { KeyRound, Plus, Trash2 } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import type { Account, Role } from '../../api/types';
import { useUser } from '../../app/session';
import { Badge } from '../../design/Badge';
import { Button, IconButton } from '../../design/Button';
import { Card } from '../../design/Card';
import { ConfirmDialog, Dialog } from '../../design/Dialog';
import { Field, Input, Select } from '../../design/Field';
import { Fetched } from '../../design/States';
import { Switch } from '../../design/Switch';
import { Time } from '../../design/Time';
import { ROLES } from '../words';
import { SimpleTable } from './SimpleTable';
import { useChange } from './use-change';

const SHORTEST_PASSWORD = 12;

export function Users() {
  const { t } = useTranslation();
  const me = useUser();
  const users = useQuery({ queryKey: ['users'], queryFn: api.users });
  const change = useChange('users', ({ name, part }: { name: string; part: Parameters<typeof api.changeUser>[1] }) =>
    api.changeUser(name, part),
  );
  const remove = useChange('users', api.deleteUser);
  const [creating, setCreating] = useState(false);
  const [resetting, setResetting] = useState<Account | null>(null);
  const [deleting, setDeleting] = useState<Account | null>(null);

  return (
    <Card
      flush
      title={t('settings.tab.users')}
      actions={
        <Button size="sm" variant="primary" icon={<Plus />} data-testid="user-new" onClick={() => setCreating(true)}>
          {t('settings.newUser')}
        </Button>
      }
    >
      <Fetched query={users}>
        {({ items }) => (
          <SimpleTable
            label={t('settings.tab.users')}
            head={[t('settings.username'), t('settings.role'), t('settings.lastSignIn'), t('settings.created'), t('settings.active'), '']}
            rows={items.map((user) => ({
              key: user.username,
              faded: user.disabled,
              cells: [
                <span key="name" className="flex items-center gap-2">
                  <span className="font-medium">{user.username}</span>
                  {user.username === me?.username && <Badge tone="accent">{t('settings.you')}</Badge>}
                  {user.must_change_password && <Badge tone="warn">{t('settings.firstPassword')}</Badge>}
                </span>,
                <Select
                  key="role"
                  compact
                  aria-label={t('settings.roleOf', { name: user.username })}
                  value={user.role}
                  disabled={change.isPending}
                  onChange={(role) => change.mutate({ name: user.username, part: { role: role as Role } })}
                  options={ROLES.map((value) => ({ value, label: t(`role.${value}`) }))}
                />,
                <Time key="seen" value={user.last_login_at} form="relative" />,
                <Time key="made" value={user.created_at} form="short" />,
                <Switch
                  key="active"
                  checked={!user.disabled}
                  disabled={change.isPending || user.username === me?.username}
                  label={t('settings.activeOf', { name: user.username })}
                  onChange={(active) => change.mutate({ name: user.username, part: { disabled: !active } })}
                />,
                <span key="do" className="flex justify-end">
                  <IconButton label={t('settings.resetPassword', { name: user.username })} onClick={() => setResetting(user)}>
                    <KeyRound />
                  </IconButton>
                  <IconButton
                    label={t('settings.deleteUser', { name: user.username })}
                    disabled={user.username === me?.username}
                    onClick={() => setDeleting(user)}
                  >
                    <Trash2 />
                  </IconButton>
                </span>,
              ],
            }))}
          />
        )}
      </Fetched>
      <Dialog open={creating} onClose={() => setCreating(false)} title={t('settings.newUser')} description={t('settings.newUserHint')}>
        <NewUserForm onDone={() => setCreating(false)} />
      </Dialog>
      <Dialog
        open={resetting !== null}
        onClose={() => setResetting(null)}
        title={t('settings.resetPassword', { name: resetting?.username })}
        description={t('settings.newUserHint')}
      >
        {resetting && (
          <PasswordForm
            busy={change.isPending}
            onSubmit={(new_password) =>
              change.mutate({ name: resetting.username, part: { new_password } }, { onSuccess: () => setResetting(null) })
            }
          />
        )}
      </Dialog>
      <ConfirmDialog
        open={deleting !== null}
        onClose={() => setDeleting(null)}
        onConfirm={() => deleting && remove.mutate(deleting.username, { onSettled: () => setDeleting(null) })}
        busy={remove.isPending}
        title={t('settings.deleteUser', { name: deleting?.username })}
        confirmLabel={t('common.delete')}
      >
        {t('settings.deleteUserText')}
      </ConfirmDialog>
    </Card>
  );
}

function NewUserForm({ onDone }: { onDone: () => void }) {
  const { t } = useTranslation();
  const [username, setUsername] = useState('');
  const [password, setPassword] = useState('');
  const [role, setRole] = useState<Role>('analyst');
  const create = useChange('users', api.createUser);

  function submit(event: FormEvent) {
    event.preventDefault();
    create.mutate({ username, password, role }, { onSuccess: onDone });
  }
  return (
    <form onSubmit={submit} className="flex flex-col gap-3">
      <Field label={t('settings.username')}>
        <Input required maxLength={64} pattern="[A-Za-z0-9._\-]+" autoComplete="off" value={username} onChange={(event) => setUsername(event.target.value)} />
      </Field>
      <Field label={t('settings.role')} hint={t(`roleHint.${role}`)}>
        <Select value={role} onChange={(value) => setRole(value as Role)} options={ROLES.map((value) => ({ value, label: t(`role.${value}`) }))} />
      </Field>
      <Field label={t('settings.firstPasswordLabel')} hint={t('signIn.passwordHint', { count: SHORTEST_PASSWORD })}>
        <Input
          required
          type="password"
          minLength={SHORTEST_PASSWORD}
          maxLength={256}
          autoComplete="new-password"
          value={password}
          onChange={(event) => setPassword(event.target.value)}
        />
      </Field>
      <Button type="submit" variant="primary" busy={create.isPending} className="self-end">
        {t('common.create')}
      </Button>
    </form>
  );
}

function PasswordForm({ busy, onSubmit }: { busy: boolean; onSubmit: (password: string) => void }) {
  const { t } = useTranslation();
  const [password, setPassword] = useState('');
  return (
    <form
      className="flex flex-col gap-3"
      onSubmit={(event) => {
        event.preventDefault();
        onSubmit(password);
      }}
    >
      <Field label={t('settings.firstPasswordLabel')} hint={t('signIn.passwordHint', { count: SHORTEST_PASSWORD })}>
        <Input
          required
          type="password"
          minLength={SHORTEST_PASSWORD}
          maxLength={256}
          autoComplete="new-password"
          value={password}
          onChange={(event) => setPassword(event.target.value)}
        />
      </Field>
      <Button type="submit" variant="primary" busy={busy} className="self-end">
        {t('common.save')}
      </Button>
    </form>
  );
}
