/** A piece of text, or one character of it that can't be seen as it is. */
export interface TextPiece {
  text: string;
  hidden: boolean;
}

// Control characters (C0, DEL, C1), zero-width ones, and those that change the
// direction of what follows: an attacker uses them to make a command line look
// like another. Tab and line feed are shown by `pre-wrap`.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/;

/** Splits text so that hidden characters can be shown by their code points. */
export function visiblePieces(text: string): TextPiece[] {
  if (!HIDDEN.test(text)) return [{ text, hidden: false }];
  const pieces: TextPiece[] = [];
  let plain = '';
  for (const character of text) {
    if (!HIDDEN.test(character)) {
      plain += character;
      continue;
    }
    if (plain) pieces.push({ text: plain, hidden: false });
    plain = '';
    const code = character.codePointAt(0) ?? 0;
    pieces.push({ text: `U+${code.toString(16).toUpperCase().padStart(4, '0')}`, hidden: true });
  }
  if (plain) pieces.push({ text: plain, hidden: false });
  return pieces;
}
