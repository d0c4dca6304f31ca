// Every text exists in both languages, with the same blanks to fill in, and
// every key that the code names exists.
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

import { en } from '../src/i18n/en';
import { zhCn } from '../src/i18n/zh-CN';

type Texts = Map<string, string>;

function flatten(value: unknown, prefix = '', into: Texts = new Map()): Texts {
  if (typeof value === 'string') into.set(prefix, value);
  else for (const [key, inner] of Object.entries(value as object)) flatten(inner, prefix ? `${prefix}.${key}` : key, into);
  return into;
}

/** Chinese has one plural form where English has two. */
const withoutPlural = (key: string) => key.replace(/_(one|other)$/, '');
const blanks = (text: string) => [...text.matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1]).sort();

function* sources(folder: string): Generator<string> {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) {
      if (name !== 'i18n') yield* sources(path);
    } else if (/\.tsx?$/.test(name) && name !== 'schema.ts') yield readFileSync(path, 'utf8');
  }
}

const english = flatten(en);
const chinese = flatten(zhCn);
const englishKeys = new Set([...english.keys()].map(withoutPlural));
const chineseKeys = new Set([...chinese.keys()].map(withoutPlural));

describe('texts', () => {
  test('both languages have the same keys', () => {
    expect([...englishKeys].filter((key) => !chineseKeys.has(key))).toEqual([]);
    expect([...chineseKeys].filter((key) => !englishKeys.has(key))).toEqual([]);
  });

  test('English plurals have both forms, Chinese ones the form it needs', () => {
    for (const key of english.keys()) {
      if (key.endsWith('_one')) expect([...english.keys()]).toContain(key.replace(/_one$/, '_other'));
      if (key.endsWith('_other')) expect([...chinese.keys()]).toContain(key);
    }
  });

  test('both languages fill in the same blanks', () => {
    for (const [key, text] of chinese) expect([key, blanks(text)]).toEqual([key, blanks(english.get(key) ?? '')]);
  });

  test('no text is empty', () => {
    for (const [key, text] of [...english, ...chinese]) expect([key, text.trim()]).not.toEqual([key, '']);
  });

  test('every key that the code names exists, and every text is used', () => {
    const used = new Set<string>();
    const openEnded: string[] = [];
    for (const code of sources(new URL('../src', import.meta.url).pathname)) {
      for (const match of code.matchAll(/(?:\bt\(|\? |: |= )['`]([a-zA-Z]+\.[\w.${}[\]()-]+)['`]/g)) {
        const key = match[1] ?? '';
        if (key.includes('${')) openEnded.push(key.slice(0, key.indexOf('${')));
        else used.add(key);
      }
    }
    const prefixed = (key: string) => openEnded.some((prefix) => prefix !== '' && key.startsWith(prefix));
    const roots = new Set(Object.keys(en));
    const missing = [...used].filter((key) => roots.has(key.split('.')[0] ?? '') && !englishKeys.has(key));
    expect(missing).toEqual([]);
    expect([...englishKeys].filter((key) => !used.has(key) && !prefixed(key))).toEqual([]);
  });
});
