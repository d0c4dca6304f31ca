import { useInfiniteQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { useTranslation } from 'react-i18next';

import { api } from '../../api/endpoints';
import { Button } from '../../design/Button';
import { Card } from '../../design/Card';
import { ClampedText } from '../../design/ClampedText';
import { RawText } from '../../design/RawText';
import { EmptyState, Fetched } from '../../design/States';
import { Time } from '../../design/Time';
import { SimpleTable } from './SimpleTable';

/** Who did what, the latest first. */
export function Audit() {
  const { t } = useTranslation();
  const audit = useInfiniteQuery({
    queryKey: ['audit'],
    queryFn: ({ pageParam }) => api.audit(pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
  });
  const rows = useMemo(() => audit.data?.pages.flatMap((page) => page.items), [audit.data]);
  return (
    <Card flush title={t('settings.tab.audit')}>
      <Fetched query={{ data: rows, error: audit.error, isPending: audit.isPending, refetch: audit.refetch }}>
        {(items) =>
          items.length === 0 ? (
            <EmptyState title={t('settings.noAudit')} />
          ) : (
            <>
              <SimpleTable
                label={t('settings.tab.audit')}
                head={['#', t('settings.at'), t('settings.who'), t('settings.what'), t('settings.subjectOf'), t('settings.detail'), t('settings.address')]}
                rows={items.map((entry) => ({
                  key: String(entry.sequence),
                  cells: [
                    <span key="n" className="text-faint tabular-nums">
                      {entry.sequence}
                    </span>,
                    <Time key="at" value={entry.at} />,
                    entry.who,
                    <span key="what" className="font-mono text-xs">
                      {entry.what}
                    </span>,
                    <RawText key="on" text={entry.subject} />,
                    <ClampedText key="more" text={entry.detail} className="text-muted" />,
                    <span key="from" className="font-mono text-xs text-muted">
                      {entry.address}
                    </span>,
                  ],
                }))}
              />
              {audit.hasNextPage && (
                <div className="flex justify-center p-3">
                  <Button size="sm" busy={audit.isFetchingNextPage} onClick={() => void audit.fetchNextPage()}>
                    {t('common.more')}
                  </Button>
                </div>
              )}
            </>
          )
        }
      </Fetched>
    </Card>
  );
}
