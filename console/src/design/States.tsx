import { CircleAlert, Inbox } from 'lucide-react';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import { ApiError, errorText } from '../api/problem';
import { Button } from './Button';
import { cx } from './cx';

export function EmptyState({ title, children, icon }: { title: ReactNode; children?: ReactNode; icon?: ReactNode }) {
  return (
    <div className="flex flex-col items-center justify-center gap-2 px-6 py-12 text-center">
      <div className="text-faint [&_svg]:size-8 [&_svg]:stroke-[1.5]">{icon ?? <Inbox aria-hidden="true" />}</div>
      <p className="font-medium">{title}</p>
      {children && <div className="max-w-md text-muted">{children}</div>}
    </div>
  );
}

export function ErrorState({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const { t } = useTranslation();
  const problem = error instanceof ApiError ? error : null;
  return (
    <div role="alert" className="flex flex-col items-center justify-center gap-2 px-6 py-10 text-center">
      <CircleAlert aria-hidden="true" className="size-8 stroke-[1.5] text-bad" />
      <p className="max-w-lg font-medium [overflow-wrap:anywhere]">{errorText(error)}</p>
      {problem && (
        <p className="font-mono text-2xs text-faint">
          {problem.status} {problem.code}
          {problem.requestId && ` · ${problem.requestId}`}
        </p>
      )}
      {onRetry && (
        <Button size="sm" onClick={onRetry}>
          {t('common.retry')}
        </Button>
      )}
    </div>
  );
}

export function Skeleton({ className }: { className?: string }) {
  return <div aria-hidden="true" className={cx('animate-pulse rounded bg-line', className)} />;
}

/** Rows that stand in for a list until it is there. */
export function SkeletonRows({ rows = 6 }: { rows?: number }) {
  const { t } = useTranslation();
  return (
    <div role="status" aria-label={t('common.loading')} className="flex flex-col gap-3 p-4">
      {Array.from({ length: rows }, (_, index) => (
        <Skeleton key={index} className={cx('h-4', index % 3 === 1 ? 'w-4/5' : 'w-full')} />
      ))}
    </div>
  );
}

interface QueryLike<T> {
  data: T | undefined;
  error: unknown;
  isPending: boolean;
  refetch: () => unknown;
}

/** Loading, failed or there: what every fetched part of a page has to say. */
export function Fetched<T>({ query, rows, children }: { query: QueryLike<T>; rows?: number; children: (data: T) => ReactNode }) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.isPending) return <SkeletonRows rows={rows} />;
  return <ErrorState error={query.error} onRetry={() => void query.refetch()} />;
}
