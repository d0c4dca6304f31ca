import { Pause, Play, Trash2 } from 'lucide-react';
import { useEffect, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';

import type { EcsDocument } from '../../api/types';
import { Badge } from '../../design/Badge';
import { Button, Spinner } from '../../design/Button';
import { Card } from '../../design/Card';
import { EmptyState } from '../../design/States';
import { eventId, isGap, text } from '../../ecs/document';
import { formatNumber } from '../../i18n/format';
import { mergeLive } from '../../live/merge';
import { useStream } from '../../live/stream';
import { EventTable } from './EventTable';
import { splitField } from './query';

const MOST_ROWS = 2_000;
const SHOW_EVERY_MS = 250;

interface LiveTailProps {
  filter: { host?: string; type?: string; q?: string };
  /** `name:value`; the stream does not know them, so they are applied here. */
  fields: string[];
  onOpen: (event: EcsDocument) => void;
  activeId?: string;
}

/** Events as they are stored. Paused, new ones wait; the oldest give way. */
export function LiveTail({ filter, fields, onOpen, activeId }: LiveTailProps) {
  const { t, i18n } = useTranslation();
  const [rows, setRows] = useState<EcsDocument[]>([]);
  const [paused, setPaused] = useState(false);
  const [waiting, setWaiting] = useState(0);
  const [missed, setMissed] = useState(0);
  const buffer = useRef<EcsDocument[]>([]);
  const filterKey = JSON.stringify([filter, fields]);

  useEffect(() => {
    buffer.current = [];
    setRows([]);
    setWaiting(0);
    setMissed(0);
  }, [filterKey]);

  const state = useStream(filter, {
    onEvent: (event) => {
      if (!isGap(event) && !fields.every((field) => has(event, field))) return;
      buffer.current.push(event);
      if (buffer.current.length > MOST_ROWS) buffer.current.splice(0, buffer.current.length - MOST_ROWS);
    },
    onLagged: (count) => setMissed((before) => before + count),
  });

  // Rows are drawn a few times a second, however many events come.
  useEffect(() => {
    const timer = setInterval(() => {
      if (paused) {
        setWaiting(buffer.current.length);
        return;
      }
      setWaiting(0);
      if (buffer.current.length === 0) return;
      const incoming = buffer.current;
      buffer.current = [];
      setRows((known) => mergeLive(known, incoming, eventId, MOST_ROWS));
    }, SHOW_EVERY_MS);
    return () => clearInterval(timer);
  }, [paused]);

  return (
    <Card
      flush
      className="flex min-h-0 flex-1 flex-col overflow-hidden [&>div]:flex [&>div]:min-h-0 [&>div]:flex-1 [&>div]:flex-col"
      title={
        <span className="flex items-center gap-2 font-normal text-muted">
          {state === 'open' ? (
            <Badge tone={paused ? 'warn' : 'good'}>{paused ? t('events.paused') : t('nav.live')}</Badge>
          ) : (
            <span className="flex items-center gap-1.5 text-warn">
              <Spinner /> {t('nav.reconnecting')}
            </span>
          )}
          {t('events.shown', { total: formatNumber(rows.length, i18n.language) })}
          {missed > 0 && <Badge tone="warn">{t('events.missed', { total: formatNumber(missed, i18n.language) })}</Badge>}
        </span>
      }
      actions={
        <>
          <Button size="sm" variant="ghost" icon={<Trash2 />} onClick={() => setRows([])}>
            {t('events.clear')}
          </Button>
          <Button size="sm" icon={paused ? <Play /> : <Pause />} data-testid="events-pause" onClick={() => setPaused(!paused)}>
            {paused ? t('events.resume', { total: formatNumber(waiting, i18n.language) }) : t('events.pause')}
          </Button>
        </>
      }
    >
      {rows.length === 0 ? (
        <EmptyState title={t('events.waiting')}>{t('events.waitingHint')}</EmptyState>
      ) : (
        <EventTable events={rows} onOpen={onOpen} activeId={activeId} />
      )}
    </Card>
  );
}

function has(event: EcsDocument, field: string): boolean {
  const [name, value] = splitField(field);
  return text(event, name).toLowerCase() === value.toLowerCase();
}
