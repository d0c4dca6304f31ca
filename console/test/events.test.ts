import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

import { visiblePieces } from '../src/design/visible-text';
import { flatten, headline, pick, text } from '../src/ecs/document';
import { parseQuery, splitField } from '../src/pages/events/query';
import { EVENT_TYPES } from '../src/pages/events/EventTypeBadge';
import { rangeName, spanOf } from '../src/pages/events/time-range';

describe('the query bar', () => {
  test('takes fields out of the words', () => {
    expect(parseQuery('curl process.name:bash user.name:"www data" sh')).toEqual({
      words: 'curl sh',
      fields: ['process.name:bash', 'user.name:www data'],
    });
  });

  test('leaves addresses, paths and plain colons alone', () => {
    for (const words of ['https://example.org/a', '/usr/bin/x:y', 'pool:3333', 'a: b']) {
      expect(parseQuery(words)).toEqual({ words, fields: [] });
    }
  });

  test('a value may have colons', () => {
    expect(splitField('file.path:C:\\x')).toEqual(['file.path', 'C:\\x']);
  });
});

describe('time ranges', () => {
  const now = Date.parse('2026-11-21T12:00:00Z');

  test('named ranges reach until now', () => {
    expect(spanOf({ range: '24h' }, now)).toEqual({ from: '2026-11-20T12:00:00.000Z' });
    expect(spanOf({}, now)).toEqual({ from: '2026-11-21T11:00:00.000Z' });
    expect(rangeName({ range: 'nonsense' })).toBe('1h');
  });

  test('fixed times win over a name, and what is no time is left out', () => {
    const search = { range: '1h', from: '2026-11-01T00:00:00Z', to: 'soon' };
    expect(rangeName(search)).toBeUndefined();
    expect(spanOf(search, now)).toEqual({ from: '2026-11-01T00:00:00.000Z' });
  });
});

describe('ECS documents', () => {
  const event = {
    rampart: { event: { type: 'process_start' } },
    process: { command_line: 'bash -c id', pid: 7, args: ['bash', '-c', 'id'] },
    empty: null,
  };

  test('fields are found by dotted names', () => {
    expect(pick(event, 'process.pid')).toBe(7);
    expect(pick(event, 'process.pid.deeper')).toBeUndefined();
    expect(text(event, 'process.args')).toBe('bash -c id');
    expect(text(event, 'no.such')).toBe('');
    expect(headline(event)).toBe('bash -c id');
  });

  test('the flat list is sorted and keeps lists whole', () => {
    expect(flatten(event).map(([name]) => name)).toEqual(['process.args', 'process.command_line', 'process.pid', 'rampart.event.type']);
  });
});

describe('text from hosts', () => {
  test('what could hide or turn text around is shown by its number', () => {
    expect(visiblePieces('a\u202Eexe.\u0007b')).toEqual([
      { text: 'a', hidden: false },
      { text: 'U+202E', hidden: true },
      { text: 'exe.', hidden: false },
      { text: 'U+0007', hidden: true },
      { text: 'b', hidden: false },
    ]);
  });

  test('other languages, tabs and line feeds stay as they are', () => {
    const plain = '可疑进程 – naïve\tx\ny 😀';
    expect(visiblePieces(plain)).toEqual([{ text: plain, hidden: false }]);
  });
});

describe('the row of an event', () => {
  const examples = join(__dirname, '../../schema/examples');
  // Some types there are on one system only.
  const file = (type: string) =>
    ['linux', 'windows'].map((os) => join(examples, `${type}_${os}.json`)).find((path) => existsSync(path)) ?? type;
  const event = (type: string) => JSON.parse(readFileSync(file(type), 'utf8')) as Record<string, unknown>;

  test('says what was done, to what and by whom', () => {
    expect(headline(event('file_rename'))).toBe('create /etc/cron.d/.backup.new → /etc/cron.d/backup (/usr/bin/dash)');
    expect(headline(event('network_connect'))).toBe('198.51.100.9:443 (/usr/bin/dash)');
    expect(headline(event('process_access'))).toBe('ptrace → /usr/sbin/nginx (/usr/bin/dash)');
    expect(headline(event('account_create'))).toBe('alice');
  });

  test('says something of every type that agents send', () => {
    for (const type of EVENT_TYPES) {
      expect(headline(event(type)), type).not.toBe('');
    }
  });
});
