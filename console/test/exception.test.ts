import { describe, expect, it } from 'vitest';

import { exceptionOf, exceptionsIn, withException } from '../src/pages/rules/exception';

const FORM = { condition: " user = 'backup' ", hosts: 'build-*, ci', reason: ' nightly ', expires: '2027-01-31' };

describe('exceptions', () => {
  it('are what the server reads', () => {
    expect(exceptionOf(FORM)).toEqual({
      condition: "user = 'backup'",
      hosts: ['build-*', 'ci'],
      reason: 'nightly',
      expires: '2027-01-31T00:00:00Z',
    });
    expect(exceptionOf({ ...FORM, hosts: ' ', expires: '' })).toEqual({ condition: "user = 'backup'", reason: 'nightly' });
  });

  it('are added behind those that a rule has', () => {
    const rule = JSON.stringify({ id: 1, exceptions: [{ condition: 'x', reason: 'first', expires: '2026-01-01T00:00:00Z' }] });
    const text = withException(rule, exceptionOf(FORM)) ?? '';
    expect(exceptionsIn(text)).toEqual([
      { reason: 'first', expires: '2026-01-01T00:00:00Z' },
      { reason: 'nightly', expires: '2027-01-31T00:00:00Z' },
    ]);
    expect(JSON.parse(text)).toHaveProperty('id', 1);
    expect(withException('{"id": 2}', { reason: 'r' })).toContain('"exceptions"');
  });

  it('are not put into what is no JSON rule', () => {
    for (const text of ['title: sigma\n', '[{"id": 1}]', '{"id": ', '']) {
      expect(withException(text, { reason: 'r' })).toBeUndefined();
      expect(exceptionsIn(text)).toEqual([]);
    }
  });
});
