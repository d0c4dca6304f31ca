import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import { LanguageToggle, ThemeToggle } from '../../app/controls';
import { Logo } from '../../app/Logo';

export function SignInFrame({ title, note, children }: { title: string; note?: string; children: ReactNode }) {
  const { t } = useTranslation();
  return (
    <div className="flex min-h-full flex-col bg-canvas">
      <header className="flex items-center justify-end gap-1 bg-sidebar px-4 py-2">
        <ThemeToggle />
        <LanguageToggle />
      </header>
      <main className="flex flex-1 items-start justify-center px-4 pt-[14vh]">
        <div className="w-full max-w-sm">
          <div className="mb-5 flex items-center gap-3">
            <Logo className="size-10" />
            <div>
              <p className="text-lg leading-tight font-semibold">Rampart</p>
              <p className="text-xs text-muted">{t('signIn.tagline')}</p>
            </div>
          </div>
          <section className="rounded-lg border bg-surface p-5">
            <h1 className="text-base font-semibold">{title}</h1>
            {note && <p className="mt-1 text-xs text-muted">{note}</p>}
            {children}
          </section>
        </div>
      </main>
    </div>
  );
}
