import { Activity, CircleStop, LogOut, Play, ShieldAlert, TriangleAlert, Wrench } from 'lucide-react';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import type { EcsDocument } from '../../api/types';
import { Badge, type Tone } from '../../design/Badge';
import { eventType } from '../../ecs/document';

/** The event types that agents send today, in the order of the filter. */
export const EVENT_TYPES = ['process_start', 'process_exit', 'gap', 'agent_start', 'agent_stop', 'agent_health'] as const;

const LOOKS: Record<string, { tone: Tone; icon: ReactNode }> = {
  process_start: { tone: 'accent', icon: <Play aria-hidden="true" /> },
  process_exit: { tone: 'neutral', icon: <LogOut aria-hidden="true" /> },
  detection: { tone: 'bad', icon: <ShieldAlert aria-hidden="true" /> },
  response: { tone: 'good', icon: <Wrench aria-hidden="true" /> },
  agent_start: { tone: 'good', icon: <Activity aria-hidden="true" /> },
  agent_stop: { tone: 'warn', icon: <CircleStop aria-hidden="true" /> },
  agent_health: { tone: 'neutral', icon: <Activity aria-hidden="true" /> },
  gap: { tone: 'warn', icon: <TriangleAlert aria-hidden="true" /> },
};

export function EventTypeBadge({ event }: { event: EcsDocument }) {
  const { t, i18n } = useTranslation();
  const type = eventType(event);
  const look = LOOKS[type] ?? { tone: 'neutral', icon: null };
  const key = `eventType.${type}`;
  return (
    <Badge tone={look.tone} icon={look.icon}>
      {i18n.exists(key) ? t(key as 'eventType.gap') : type}
    </Badge>
  );
}
