import { Link, Outlet, useRouterState } from '@tanstack/react-router';
import { Suspense } from 'react';
import { useTranslation } from 'react-i18next';

import { cx } from '../design/cx';
import { SkeletonRows } from '../design/States';
import { LiveProvider, useLive } from '../live/LiveProvider';
import { AccountMenu, LanguageToggle, ThemeToggle } from './controls';
import { Logo } from './Logo';
import { PAGES } from './navigation';
import { Shortcuts } from './Shortcuts';

/** Side bar (a bottom bar on narrow windows) around the page. */
export function Shell() {
  const { t } = useTranslation();
  return (
    <LiveProvider>
      <Shortcuts />
      <a
        href="#content"
        className="sr-only z-60 rounded bg-accent px-3 py-1 text-on-accent focus:not-sr-only focus:absolute focus:top-2 focus:left-2"
      >
        {t('nav.skip')}
      </a>
      <div className="flex h-full flex-col md:flex-row">
        <aside className="flex shrink-0 items-center justify-between border-b border-sidebar-line bg-sidebar px-3 py-1.5 text-sidebar-ink md:w-52 md:flex-col md:items-stretch md:justify-start md:border-r md:border-b-0 md:px-2.5 md:py-3">
          <Link to="/" className="flex items-center gap-2.5 rounded px-1.5 py-1 md:mb-4">
            <Logo className="size-7" />
            <span className="text-base font-semibold tracking-wide">Rampart</span>
          </Link>
          <nav aria-label={t('nav.main')} className="hidden md:block">
            <NavLinks />
          </nav>
          <div className="flex items-center gap-1 md:mt-auto md:flex-col md:items-stretch">
            <LiveSign />
            <div className="flex items-center gap-1 md:mb-1 md:px-0.5">
              <ThemeToggle />
              <LanguageToggle />
            </div>
            <AccountMenu />
          </div>
        </aside>
        <main id="content" tabIndex={-1} className="min-h-0 min-w-0 flex-1 overflow-auto outline-none">
          <Suspense fallback={<SkeletonRows />}>
            <Outlet />
          </Suspense>
        </main>
        <nav aria-label={t('nav.main')} className="shrink-0 border-t border-sidebar-line bg-sidebar text-sidebar-ink md:hidden">
          <NavLinks narrow />
        </nav>
      </div>
    </LiveProvider>
  );
}

function NavLinks({ narrow }: { narrow?: boolean }) {
  const { t } = useTranslation();
  const path = useRouterState({ select: (state) => state.location.pathname });
  return (
    <ul className={cx('flex gap-0.5', narrow ? 'justify-around px-1 py-1' : 'flex-col')}>
      {PAGES.map(({ id, to, key, icon: Icon }) => {
        const base = id === 'dashboard' ? '/' : `/${id}`;
        const active = base === '/' ? path === '/' : path.startsWith(base);
        return (
          <li key={id}>
            <Link
              to={to}
              data-testid={narrow ? undefined : `nav-${id}`}
              aria-current={active ? 'page' : undefined}
              title={narrow ? undefined : `${t(`nav.${id}`)} (g ${key})`}
              className={cx(
                'flex items-center rounded-md text-sidebar-muted transition-colors hover:bg-sidebar-active hover:text-sidebar-ink',
                narrow ? 'flex-col gap-0.5 px-1.5 py-1 text-2xs' : 'h-8.5 gap-2.5 px-2.5 text-sm',
                active && 'bg-sidebar-active font-medium text-sidebar-ink',
              )}
            >
              <Icon aria-hidden="true" className="size-4 shrink-0" />
              {t(`nav.${id}`)}
            </Link>
          </li>
        );
      })}
    </ul>
  );
}

/** Whether changes come in by themselves right now. */
function LiveSign() {
  const { t } = useTranslation();
  const { state } = useLive();
  const open = state === 'open';
  return (
    <p role="status" className="hidden items-center gap-2 px-2.5 py-1 text-xs text-sidebar-muted md:flex">
      <svg viewBox="0 0 8 8" aria-hidden="true" className="size-2">
        {open ? (
          <circle cx="4" cy="4" r="4" fill="#4cc38a" />
        ) : (
          <circle cx="4" cy="4" r="3" fill="none" stroke="#e6b450" strokeWidth="2" />
        )}
      </svg>
      {open ? t('nav.live') : t('nav.reconnecting')}
    </p>
  );
}
