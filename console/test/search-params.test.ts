import { describe, expect, test } from 'vitest';

import { parseSearch, pickList, pickText, stringifySearch } from '../src/app/search-params';
import { nextAddress } from '../src/pages/sign-in/next-address';

describe('the address bar', () => {
  test('gives back what was put in, lists and odd characters too', () => {
    const search = { q: 'a & b = "c" 编码', field: ['process.name:bash', 'user.name:a:b'], host: 'h-1' };
    expect(parseSearch(stringifySearch(search))).toEqual(search);
  });

  test('leaves out what is empty', () => {
    expect(stringifySearch({ q: '', host: undefined, field: [], type: null })).toBe('');
    expect(stringifySearch({ q: 'x', host: '' })).toBe('?q=x');
  });

  test('known keys only, and text where text is wanted', () => {
    expect(pickText({ q: ['a', 'b'], status: '', strange: 'x' }, ['q', 'status'])).toEqual({ q: 'b' });
    expect(pickText({ q: 3 }, ['q'])).toEqual({});
  });

  test('one value of a list stands alone, repeats are dropped', () => {
    expect(pickList(parseSearch('?field=a:1'), 'field')).toEqual(['a:1']);
    expect(pickList(parseSearch('?field=a:1&field=a:1&field=b:2'), 'field')).toEqual(['a:1', 'b:2']);
    expect(pickList({}, 'field')).toBeUndefined();
  });
});

describe('the way on after signing in', () => {
  test('leads to pages of this console only', () => {
    expect(nextAddress('/alerts?status=open')).toBe('/alerts?status=open');
    for (const foreign of ['//evil.example', '/\\evil.example', 'https://evil.example', 'javascript:alert(1)', undefined]) {
      expect(nextAddress(foreign)).toBe('/');
    }
  });
});
