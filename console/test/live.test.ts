import { describe, expect, test } from 'vitest';

import { mergeLive } from '../src/live/merge';

interface Item {
  id: string;
  text: string;
}
const item = (id: string, text = ''): Item => ({ id, text });
const merge = (known: Item[], incoming: Item[], most = 10) => mergeLive(known, incoming, (one) => one.id, most);
const ids = (items: Item[]) => items.map((one) => one.id).join('');

describe('live items', () => {
  test('the latest stands first', () => {
    expect(ids(merge([item('b'), item('a')], [item('c'), item('d')]))).toBe('dcba');
  });

  test('an item that comes again moves up with its new content', () => {
    const merged = merge([item('b'), item('a', 'old')], [item('a', 'new')]);
    expect(merged).toEqual([item('a', 'new'), item('b')]);
  });

  test('an item that comes twice at once stands once, with the later content', () => {
    expect(merge([], [item('a', '1'), item('a', '2')])).toEqual([item('a', '2')]);
  });

  test('the oldest give way', () => {
    expect(ids(merge([item('c'), item('b'), item('a')], [item('d'), item('e')], 3))).toBe('edc');
    expect(ids(merge([], [item('a'), item('b'), item('c')], 2))).toBe('cb');
  });

  test('nothing new keeps the list itself, so that nothing is drawn again', () => {
    const known = [item('a')];
    expect(merge(known, [])).toBe(known);
  });
});
