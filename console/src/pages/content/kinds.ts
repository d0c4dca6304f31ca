import type { ContentKind } from '../../api/endpoints';

export const CONTENT_KINDS: readonly ContentKind[] = ['yara', 'indicators', 'behaviours'];

export function isContentKind(word: string | undefined): word is ContentKind {
  return CONTENT_KINDS.some((kind) => kind === word);
}

/** What a new file begins with. */
export const STARTING_TEXT: Record<ContentKind, string> = {
  yara: 'rule example {\n  meta:\n    description = ""\n  strings:\n    $a = "text to look for"\n  condition:\n    $a\n}\n',
  indicators: 'value,confidence,description\n',
  behaviours:
    '{\n  "behaviours": [\n    { "id": "my-behaviour", "name": "What was done", "weight": 20, "conditions": ["cmdline contains \'text\'"] }\n  ]\n}\n',
};

/** Names as the server takes them. */
export const NAME_PATTERN = '[A-Za-z0-9][A-Za-z0-9._\\-]{0,99}';
