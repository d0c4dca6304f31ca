import { Link } from '@tanstack/react-router';
import { CornerDownRight } from 'lucide-react';
import { useTranslation } from 'react-i18next';

import type { ProcessSummary } from '../../api/types';
import { Badge } from '../../design/Badge';
import { ClampedText } from '../../design/ClampedText';
import { cx } from '../../design/cx';
import { RawText } from '../../design/RawText';
import { Time } from '../../design/Time';

const INDENT_REM = 1.25;
const DEEPEST_INDENT = 8;

/** From the oldest known ancestor down to the process that the rule matched. */
export function ProcessAncestry({ ancestry, hostId }: { ancestry: ProcessSummary[]; hostId: string }) {
  const { t } = useTranslation();
  if (ancestry.length === 0) return <p className="text-muted">{t('alerts.noAncestry')}</p>;
  // The API names the nearest first.
  const ladder = ancestry.toReversed();
  return (
    <ol className="flex flex-col gap-1.5">
      {ladder.map((process, depth) => {
        const offending = depth === ladder.length - 1;
        const name = process.executable.slice(process.executable.lastIndexOf('/') + 1) || process.executable;
        return (
          <li
            key={process.entity_id}
            className="flex items-start gap-2"
            style={{ marginLeft: `${Math.min(depth, DEEPEST_INDENT) * INDENT_REM}rem` }}
            aria-current={offending || undefined}
          >
            {depth > 0 && <CornerDownRight aria-hidden="true" className="mt-2.5 size-4 shrink-0 text-line-strong" />}
            <div
              className={cx(
                'min-w-0 flex-1 rounded-md border px-3 py-1.5',
                offending ? 'border-bad bg-bad-soft' : 'border-line bg-sunken',
              )}
            >
              <div className="flex flex-wrap items-center gap-x-2 gap-y-0.5">
                <RawText text={name} className="font-semibold" />
                <span className="text-xs text-muted tabular-nums">pid {process.pid}</span>
                <span className="text-xs text-muted">{process.user}</span>
                <span className="text-xs text-muted">
                  <Time value={process.start} form="precise" />
                </span>
                {offending && <Badge tone="bad">{t('alerts.offending')}</Badge>}
                <Link
                  to="/events"
                  search={{ host: hostId, field: [`process.entity_id:${process.entity_id}`], range: '7d' }}
                  className="ml-auto text-xs text-accent hover:underline"
                >
                  {t('nav.events')}
                </Link>
              </div>
              <ClampedText text={process.command_line || process.executable} className="text-muted" />
            </div>
          </li>
        );
      })}
    </ol>
  );
}
