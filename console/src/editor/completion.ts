import type { CompletionContext, CompletionResult } from '@codemirror/autocomplete';

import type { FieldDescription } from '../api/types';

const OPERATORS = ['contains', 'startswith', 'endswith', 'matches', 'in', 'not in', 'and', 'or', 'not'];

/** Fields and operators inside the strings of a rule's conditions. */
export function completeCondition(context: CompletionContext, fields: FieldDescription[]): CompletionResult | null {
  const word = context.matchBefore(/[\w.]+/);
  if (!word && !context.explicit) return null;
  // Only between the double quotes of a JSON string, and not behind a key.
  const line = context.state.doc.lineAt(context.pos);
  const before = line.text.slice(0, context.pos - line.from);
  const quotes = before.match(/(?<!\\)"/g)?.length ?? 0;
  if (quotes % 2 === 0 || /^\s*"[\w]*$/.test(before) === false && /"\s*:\s*"[^"]*$/.test(before)) return null;
  const type = /"type"\s*:\s*"(\w+)"/.exec(context.state.doc.toString())?.[1];
  const options = fields
    .filter((field) => field.rule_types.length > 0 && (!type || field.rule_types.includes(type)))
    .flatMap((field) =>
      [...field.rule_names, field.name].map((label) => ({ label, detail: field.kind, info: field.description, type: 'property' })),
    );
  return {
    from: word?.from ?? context.pos,
    options: [...options, ...OPERATORS.map((label) => ({ label, type: 'keyword' }))],
    validFor: /^[\w.]*$/,
  };
}
