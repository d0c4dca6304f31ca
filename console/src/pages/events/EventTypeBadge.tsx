import {
  Activity,
  CircleStop,
  Cpu,
  File,
  KeyRound,
  LogOut,
  Network,
  Play,
  Repeat,
  ScrollText,
  ShieldAlert,
  Syringe,
  TriangleAlert,
  UserCog,
  Wrench,
} from 'lucide-react';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

import type { EcsDocument } from '../../api/types';
import { Badge, type Tone } from '../../design/Badge';
import { eventType } from '../../ecs/document';

/** The event types that agents send today, in the order of the filter. */
export const EVENT_TYPES = [
  'process_start',
  'process_exit',
  'execution_gate',
  'file_create',
  'file_modify',
  'file_delete',
  'file_rename',
  'file_attribute',
  'file_link',
  'network_connect',
  'network_accept',
  'network_close',
  'network_listen',
  'dns_query',
  'unix_connect',
  'user_logon',
  'user_logoff',
  'user_logon_failed',
  'account_create',
  'account_modify',
  'account_delete',
  'registry_change',
  'event_log',
  'scheduled_task',
  'service',
  'persistence',
  'script_content',
  'image_load',
  'module_load',
  'bpf_load',
  'process_access',
  'process_tamper',
  'memfd_create',
  'signal',
  'privilege_change',
  'raw_access_read',
  'mount',
  'namespace',
  'container_start',
  'pipe_create',
  'usb_device',
  'gap',
  'agent_start',
  'agent_stop',
  'agent_health',
  'agent_tamper',
  'file_scan',
] as const;

const LOOKS: Record<string, { tone: Tone; icon: ReactNode }> = {
  process_start: { tone: 'accent', icon: <Play aria-hidden="true" /> },
  process_exit: { tone: 'neutral', icon: <LogOut aria-hidden="true" /> },
  execution_gate: { tone: 'bad', icon: <ShieldAlert aria-hidden="true" /> },
  detection: { tone: 'bad', icon: <ShieldAlert aria-hidden="true" /> },
  response: { tone: 'good', icon: <Wrench aria-hidden="true" /> },
  agent_start: { tone: 'good', icon: <Activity aria-hidden="true" /> },
  agent_stop: { tone: 'warn', icon: <CircleStop aria-hidden="true" /> },
  agent_health: { tone: 'neutral', icon: <Activity aria-hidden="true" /> },
  agent_tamper: { tone: 'bad', icon: <ShieldAlert aria-hidden="true" /> },
  file_scan: { tone: 'bad', icon: <ShieldAlert aria-hidden="true" /> },
  gap: { tone: 'warn', icon: <TriangleAlert aria-hidden="true" /> },
};

/** Types without a look of their own share that of their kind, the part before the underscore. */
const LOOKS_OF_KIND: Record<string, { tone: Tone; icon: ReactNode }> = {
  file: { tone: 'neutral', icon: <File aria-hidden="true" /> },
  pipe: { tone: 'neutral', icon: <File aria-hidden="true" /> },
  network: { tone: 'accent', icon: <Network aria-hidden="true" /> },
  dns: { tone: 'accent', icon: <Network aria-hidden="true" /> },
  unix: { tone: 'neutral', icon: <Network aria-hidden="true" /> },
  user: { tone: 'accent', icon: <KeyRound aria-hidden="true" /> },
  account: { tone: 'warn', icon: <UserCog aria-hidden="true" /> },
  scheduled: { tone: 'warn', icon: <Repeat aria-hidden="true" /> },
  service: { tone: 'warn', icon: <Repeat aria-hidden="true" /> },
  persistence: { tone: 'warn', icon: <Repeat aria-hidden="true" /> },
  process: { tone: 'warn', icon: <Syringe aria-hidden="true" /> },
  script: { tone: 'neutral', icon: <ScrollText aria-hidden="true" /> },
};

export function EventTypeBadge({ event }: { event: EcsDocument }) {
  const { t, i18n } = useTranslation();
  const type = eventType(event);
  const look = LOOKS[type] ?? LOOKS_OF_KIND[type.split('_')[0] ?? ''] ?? { tone: 'neutral', icon: <Cpu aria-hidden="true" /> };
  const key = `eventType.${type}`;
  return (
    <Badge tone={look.tone} icon={look.icon}>
      {i18n.exists(key) ? t(key as 'eventType.gap') : type}
    </Badge>
  );
}
