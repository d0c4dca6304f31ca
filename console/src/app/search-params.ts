// The address bar holds a page's whole filter state, as plain words: a list is
// a repeated key, what is empty is left out.

export type SearchValue = string | string[] | undefined;
export type SearchRecord = Record<string, SearchValue>;

/** `?a=1&b=2&b=3` to `{a: '1', b: ['2', '3']}`. */
export function parseSearch(text: string): Record<string, string | string[]> {
  const found: Record<string, string | string[]> = {};
  for (const [key, value] of new URLSearchParams(text)) {
    const before = found[key];
    if (before === undefined) found[key] = value;
    else found[key] = Array.isArray(before) ? [...before, value] : [before, value];
  }
  return found;
}

/** The other way round; with its `?`, or empty. */
export function stringifySearch(search: Record<string, unknown>): string {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(search)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== '') parameters.append(key, String(one));
    }
  }
  const text = parameters.toString();
  return text && `?${text}`;
}

/** Only the known keys; of a key that should stand once, the last. */
export function pickText<Key extends string>(search: Record<string, unknown>, keys: readonly Key[]): { [K in Key]?: string } {
  const picked: { [K in Key]?: string } = {};
  for (const key of keys) {
    const value = search[key];
    const one: unknown = Array.isArray(value) ? value.at(-1) : value;
    if (typeof one === 'string' && one !== '') picked[key] = one;
  }
  return picked;
}

/** A key that may stand several times. */
export function pickList(search: Record<string, unknown>, key: string): string[] | undefined {
  const value = search[key];
  const list = (Array.isArray(value) ? value : [value]).filter((one): one is string => typeof one === 'string' && one !== '');
  return list.length ? [...new Set(list)] : undefined;
}
