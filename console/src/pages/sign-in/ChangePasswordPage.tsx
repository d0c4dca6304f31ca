import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Navigate, getRouteApi, useRouter } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { describeError } from '../../api/problem';
import { sessionQuery } from '../../app/session';
import { Button } from '../../design/Button';
import { Field, Input } from '../../design/Field';
import { SkeletonRows } from '../../design/States';
import { useToast } from '../../design/Toast';
import { nextAddress } from './next-address';
import { SignInFrame } from './SignInFrame';

const route = getRouteApi('/change-password');
const SHORTEST = 12;

/** Forced for a first password; also reached from the account menu. */
export function ChangePasswordPage() {
  const { t } = useTranslation();
  const { next } = route.useSearch();
  const client = useQueryClient();
  const router = useRouter();
  const toast = useToast();
  const session = useQuery(sessionQuery);
  const [current, setCurrent] = useState('');
  const [fresh, setFresh] = useState('');
  const [again, setAgain] = useState('');
  const change = useMutation({
    mutationFn: () => api.changePassword(current, fresh),
    onSuccess: async () => {
      await client.fetchQuery({ ...sessionQuery, staleTime: 0 });
      toast.done(t('signIn.passwordChanged'));
      router.history.push(nextAddress(next));
    },
  });

  if (session.isPending) return <SkeletonRows rows={3} />;
  if (!session.data) return <Navigate to="/sign-in" search={{ next }} />;
  const tooShort = fresh.length > 0 && fresh.length < SHORTEST;
  const differs = again.length > 0 && again !== fresh;
  const ready = fresh.length >= SHORTEST && again === fresh && current.length > 0;

  function submit(event: FormEvent) {
    event.preventDefault();
    if (ready) change.mutate();
  }

  return (
    <SignInFrame
      title={t('signIn.changeTitle')}
      note={session.data.must_change_password ? t('signIn.mustChange', { username: session.data.username }) : undefined}
    >
      <form onSubmit={submit} className="mt-4 flex flex-col gap-3">
        <input type="text" autoComplete="username" value={session.data.username} readOnly hidden />
        <Field label={t('signIn.currentPassword')}>
          <Input
            data-testid="password-current"
            type="password"
            autoComplete="current-password"
            autoFocus
            required
            value={current}
            onChange={(event) => setCurrent(event.target.value)}
          />
        </Field>
        <Field
          label={t('signIn.newPassword')}
          hint={t('signIn.passwordHint', { count: SHORTEST })}
          error={tooShort ? t('signIn.passwordHint', { count: SHORTEST }) : undefined}
        >
          <Input
            data-testid="password-new"
            type="password"
            autoComplete="new-password"
            required
            value={fresh}
            onChange={(event) => setFresh(event.target.value)}
          />
        </Field>
        <Field label={t('signIn.repeatPassword')} error={differs ? t('signIn.passwordsDiffer') : undefined}>
          <Input
            data-testid="password-repeat"
            type="password"
            autoComplete="new-password"
            required
            value={again}
            onChange={(event) => setAgain(event.target.value)}
          />
        </Field>
        {change.error && (
          <p role="alert" className="text-xs text-bad">
            {describeError(change.error)}
          </p>
        )}
        <div className="mt-1 flex gap-2">
          <Button type="submit" variant="primary" busy={change.isPending} disabled={!ready} data-testid="password-submit" className="flex-1">
            {t('signIn.changeSubmit')}
          </Button>
          {!session.data.must_change_password && (
            <Button onClick={() => router.history.push(nextAddress(next))}>{t('common.cancel')}</Button>
          )}
        </div>
      </form>
    </SignInFrame>
  );
}
