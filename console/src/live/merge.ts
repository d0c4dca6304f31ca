/** New items in front of the old ones: each id once, the new content wins, at most `most`. */
export function mergeLive<T>(known: readonly T[], incoming: readonly T[], idOf: (item: T) => string, most: number): T[] {
  if (incoming.length === 0) return known as T[];
  const seen = new Set<string>();
  const merged: T[] = [];
  // The latest of the incoming ones stands last.
  for (let index = incoming.length - 1; index >= 0; index--) add(incoming[index] as T);
  for (const item of known) add(item);
  return merged;

  function add(item: T) {
    const id = idOf(item);
    if (merged.length >= most || seen.has(id)) return;
    seen.add(id);
    merged.push(item);
  }
}
