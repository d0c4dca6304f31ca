import type { ReactNode } from 'react';

import { cx } from './cx';

interface PageProps {
  title: ReactNode;
  /** A line under the title. */
  summary?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  /** The page fills the window's height and scrolls inside (long tables). */
  fill?: boolean;
}

export function Page({ title, summary, actions, children, fill }: PageProps) {
  return (
    <div className={cx('mx-auto flex w-full max-w-[1680px] flex-col gap-4 p-4 lg:px-6 lg:py-5', fill && 'md:h-full')}>
      <div className="flex flex-wrap items-start justify-between gap-x-4 gap-y-2">
        <div className="min-w-0">
          <h1 className="text-lg font-semibold tracking-tight [overflow-wrap:anywhere]">{title}</h1>
          {summary && <div className="mt-0.5 text-xs text-muted">{summary}</div>}
        </div>
        {actions && <div className="flex flex-wrap items-center gap-2">{actions}</div>}
      </div>
      {children}
    </div>
  );
}
