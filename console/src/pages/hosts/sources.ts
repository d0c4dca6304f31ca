/** Event types with a source, or with the reason why there is none. */
export interface SourceLine {
  /** What makes them, or why nothing does. */
  text: string;
  /** The types, as the API names them. */
  types: string[];
}

/**
 * What an agent said of its sources: lines of `type=source`, or `type=none: reason`. Most sources make several
 * types, so types with the same text stand together.
 */
export function bySource(lines: readonly string[]): { running: SourceLine[]; missing: SourceLine[] } {
  const running = new Map<string, string[]>();
  const missing = new Map<string, string[]>();
  for (const line of lines) {
    const at = line.indexOf('=');
    const [type, text] = at < 0 ? [line, ''] : [line.slice(0, at), line.slice(at + 1)];
    const none = /^none(?::\s*([^]*))?$/.exec(text);
    const [into, key] = none ? [missing, none[1] ?? ''] : [running, text];
    into.set(key, [...(into.get(key) ?? []), type]);
  }
  const listed = (from: Map<string, string[]>) => [...from].map(([text, types]) => ({ text, types }));
  return { running: listed(running), missing: listed(missing) };
}
