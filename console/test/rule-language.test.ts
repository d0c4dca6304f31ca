import { expect, test } from 'vitest';

import { templateText } from '../src/pages/rules/templates';
import { isJsonText } from '../src/editor/language';

test('tells native rules from Sigma as the server does', () => {
  for (const text of ['{"id": 1}', '\n  [ {} ]', '\ufeff{}', templateText('process')]) expect(isJsonText(text)).toBe(true);
  for (const text of ['title: x', '---\ntitle: x', '', '# {', templateText('sigma')]) expect(isJsonText(text)).toBe(false);
});
