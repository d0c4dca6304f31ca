import { isJsonText } from '../../editor/language';

/** What a person fills in. */
export interface ExceptionForm {
  condition: string;
  hosts: string;
  reason: string;
  /** A day, `2026-12-31`; empty for never. */
  expires: string;
}

/** The exception as it stands in a rule. */
export function exceptionOf(form: ExceptionForm): Record<string, unknown> {
  const hosts = form.hosts.split(/[,\s]+/).filter((host) => host !== '');
  return {
    ...(form.condition.trim() ? { condition: form.condition.trim() } : {}),
    ...(hosts.length ? { hosts } : {}),
    reason: form.reason.trim(),
    ...(form.expires ? { expires: `${form.expires}T00:00:00Z` } : {}),
  };
}

/** The rule's text with one more exception; undefined where the rule is not written in JSON. */
export function withException(ruleText: string, exception: Record<string, unknown>): string | undefined {
  if (!isJsonText(ruleText)) return undefined;
  const rule: unknown = parsed(ruleText);
  if (typeof rule !== 'object' || rule === null || Array.isArray(rule)) return undefined;
  const before: unknown = 'exceptions' in rule ? rule.exceptions : [];
  const exceptions = Array.isArray(before) ? [...(before as unknown[]), exception] : [exception];
  return JSON.stringify({ ...rule, exceptions }, null, 2);
}

/** The reasons of the exceptions that a rule has. */
export function exceptionsIn(ruleText: string): { reason: string; expires?: string }[] {
  if (!isJsonText(ruleText)) return [];
  const rule: unknown = parsed(ruleText);
  if (typeof rule !== 'object' || rule === null || !('exceptions' in rule) || !Array.isArray(rule.exceptions)) return [];
  return (rule.exceptions as unknown[]).flatMap((one) => {
    if (typeof one !== 'object' || one === null || !('reason' in one)) return [];
    const expires = 'expires' in one && typeof one.expires === 'string' ? { expires: one.expires } : {};
    return [{ reason: String(one.reason), ...expires }];
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text.replace(/^\ufeff/, ''));
  } catch {
    return undefined;
  }
}
