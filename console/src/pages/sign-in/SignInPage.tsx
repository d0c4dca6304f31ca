import { useMutation, useQueryClient } from '@tanstack/react-query';
import { getRouteApi, useRouter } from '@tanstack/react-router';
import { type FormEvent, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { describeError } from '../../api/problem';
import { sessionQuery } from '../../app/session';
import { Button } from '../../design/Button';
import { Field, Input } from '../../design/Field';
import { nextAddress } from './next-address';
import { SignInFrame } from './SignInFrame';

const route = getRouteApi('/sign-in');

export function SignInPage() {
  const { t } = useTranslation();
  const { next } = route.useSearch();
  const client = useQueryClient();
  const router = useRouter();
  const [username, setUsername] = useState('');
  const [password, setPassword] = useState('');
  const signIn = useMutation({
    mutationFn: () => api.signIn(username, password),
    onSuccess: ({ user }) => {
      client.clear();
      client.setQueryData(sessionQuery.queryKey, user);
      router.history.push(nextAddress(next));
    },
    onError: () => setPassword(''),
  });

  function submit(event: FormEvent) {
    event.preventDefault();
    signIn.mutate();
  }

  return (
    <SignInFrame title={t('signIn.title')}>
      <form onSubmit={submit} className="mt-4 flex flex-col gap-3">
        <Field label={t('signIn.username')}>
          <Input
            data-testid="signin-username"
            autoComplete="username"
            autoFocus
            required
            maxLength={64}
            value={username}
            onChange={(event) => setUsername(event.target.value)}
          />
        </Field>
        <Field label={t('signIn.password')}>
          <Input
            data-testid="signin-password"
            type="password"
            autoComplete="current-password"
            required
            maxLength={256}
            value={password}
            onChange={(event) => setPassword(event.target.value)}
          />
        </Field>
        {signIn.error && (
          <p role="alert" data-testid="signin-error" className="text-xs text-bad">
            {describeError(signIn.error)}
          </p>
        )}
        <Button type="submit" variant="primary" busy={signIn.isPending} data-testid="signin-submit" className="mt-1">
          {t('signIn.submit')}
        </Button>
      </form>
    </SignInFrame>
  );
}
