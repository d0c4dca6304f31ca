// The query bar: free words, and `name:value` for a field by its ECS name.

/** What the address bar holds. */
export interface EventSearch {
  q?: string;
  host?: string;
  type?: string;
  range?: string;
  from?: string;
  to?: string;
  live?: string;
  event?: string;
  field?: string[];
}

/** A dotted ECS name (or `message`), a colon, a value with or without quotes. */
const FIELD = /(?:^|\s)((?:[a-z_@][\w@]*(?:\.\w+)+|message)):(?:"([^"]*)"|(\S+))/gi;

export interface ParsedQuery {
  /** What is left: a part of the command line, path or names. */
  words: string;
  /** `name:value`, as the API takes them. */
  fields: string[];
}

export function parseQuery(text: string): ParsedQuery {
  const fields: string[] = [];
  const words = text
    .replace(FIELD, (_whole, name: string, quoted: string | undefined, plain: string | undefined) => {
      fields.push(`${name}:${quoted ?? plain ?? ''}`);
      return ' ';
    })
    .replace(/\s+/g, ' ')
    .trim();
  return { words, fields };
}

export function splitField(field: string): [name: string, value: string] {
  const colon = field.indexOf(':');
  return colon < 0 ? [field, ''] : [field.slice(0, colon), field.slice(colon + 1)];
}
