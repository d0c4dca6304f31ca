import type { ReactNode } from 'react';

import { cx } from './cx';

interface CardProps {
  title?: ReactNode;
  /** Stands at the right of the title. */
  actions?: ReactNode;
  children: ReactNode;
  className?: string;
  /** The content reaches the card's edge (tables, lists). */
  flush?: boolean;
  testId?: string;
}

export function Card({ title, actions, children, className, flush, testId }: CardProps) {
  return (
    <section data-testid={testId} className={cx('min-w-0 rounded-lg border bg-surface', className)}>
      {(title || actions) && (
        <header className="flex min-h-10 items-center justify-between gap-3 border-b px-4 py-1.5">
          <h2 className="text-sm font-semibold">{title}</h2>
          {actions && <div className="flex items-center gap-2 text-xs">{actions}</div>}
        </header>
      )}
      <div className={flush ? '' : 'p-4'}>{children}</div>
    </section>
  );
}

/** Label and value pairs. */
export function Facts({ items, columns = 1 }: { items: [label: ReactNode, value: ReactNode][]; columns?: 1 | 2 }) {
  return (
    <dl className={cx('grid gap-x-8 gap-y-2', columns === 2 && 'md:grid-cols-2')}>
      {items.map(([label, value], index) => (
        <div key={index} className="grid grid-cols-[minmax(6.5rem,9rem)_minmax(0,1fr)] gap-3">
          <dt className="text-muted">{label}</dt>
          <dd className="min-w-0 [overflow-wrap:anywhere]">{value}</dd>
        </div>
      ))}
    </dl>
  );
}
