// Reading ECS documents: nested objects, asked for by dotted names.
import type { EcsDocument } from '../api/types';

export function pick(document: EcsDocument, dotted: string): unknown {
  let value: unknown = document;
  for (const part of dotted.split('.')) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    value = (value as Record<string, unknown>)[part];
  }
  return value;
}

/** The field as text; empty where the document has none. */
export function text(document: EcsDocument, dotted: string): string {
  const value = pick(document, dotted);
  return value === undefined || value === null ? '' : textOf(value);
}

export function number(document: EcsDocument, dotted: string): number | undefined {
  const value = pick(document, dotted);
  return typeof value === 'number' ? value : undefined;
}

export function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  if (Array.isArray(value) && value.every((one) => typeof one !== 'object')) return value.join(' ');
  return JSON.stringify(value);
}

/** Every field by its dotted name, in the order of the names. */
export function flatten(document: EcsDocument): [name: string, value: unknown][] {
  const found: [string, unknown][] = [];
  const walk = (prefix: string, value: unknown) => {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value)) walk(prefix ? `${prefix}.${key}` : key, inner);
    } else if (value !== undefined && value !== null) {
      found.push([prefix, value]);
    }
  };
  walk('', document);
  return found.sort(([a], [b]) => (a < b ? -1 : 1));
}

export function eventId(document: EcsDocument): string {
  return text(document, 'event.id');
}

export function eventType(document: EcsDocument): string {
  return text(document, 'rampart.event.type');
}

export function isGap(document: EcsDocument): boolean {
  return eventType(document) === 'gap';
}

/** What stands in the row of an event: one line that says most. */
export function headline(document: EcsDocument): string {
  switch (eventType(document)) {
    case 'process_start':
    case 'process_exit':
    case 'detection':
      return text(document, 'process.command_line') || text(document, 'process.executable');
    case 'response':
      return [text(document, 'event.action'), text(document, 'rampart.response.state'), text(document, 'process.executable')].join(' ');
    case 'agent_start':
    case 'agent_stop':
    case 'agent_health':
      return ownFigures(document);
    default:
      return subject(document) || ownFigures(document);
  }
}

/** Fields that say what an act was about, the most telling first. */
const SUBJECTS = [
  'dns.question.name',
  'user.target.name',
  'service.name',
  'rampart.task.command',
  'rampart.persistence.kind',
  'dll.path',
  'rampart.module.name',
  'rampart.bpf.name',
  'rampart.script.path',
  'rampart.mount.target',
  'rampart.memfd.name',
  'rampart.pipe.name',
  'rampart.network.unix_path',
  'rampart.device.name',
  'rampart.agent.tampered',
  'rampart.logon.service',
  'container.id',
];

/** What was done, to what, and by which program. */
function subject(document: EcsDocument): string {
  const parts = [text(document, 'event.action') || text(document, 'rampart.file.operation')];
  const old = text(document, 'rampart.file.old_path');
  const path = text(document, 'file.path');
  const port = text(document, 'destination.port');
  const address = text(document, 'destination.ip');
  const about = SUBJECTS.map((name) => text(document, name)).find((value) => value !== '');
  if (about) parts.push(about);
  if (old) parts.push(old, '→');
  if (path) parts.push(path);
  if (!about && address) parts.push(port ? `${address.includes(':') ? `[${address}]` : address}:${port}` : address);
  if (!about && !address && text(document, 'source.ip')) {
    parts.push([text(document, 'source.ip'), text(document, 'source.port')].filter(Boolean).join(':'));
  }
  const target = text(document, 'rampart.target.executable') || text(document, 'rampart.target.pid');
  if (target) parts.push(text(document, 'rampart.access.method'), '→', target);
  const who = text(document, 'process.executable') || text(document, 'user.name');
  if (who) parts.push(`(${who})`);
  return parts.filter(Boolean).join(' ');
}

/** What the agent says of itself. */
function ownFigures(document: EcsDocument): string {
  return flatten(document)
    .filter(([name]) => name.startsWith('rampart.agent.') || name === 'agent.version')
    .map(([name, value]) => `${name.slice(name.lastIndexOf('.') + 1)}=${textOf(value)}`)
    .join(' ');
}
