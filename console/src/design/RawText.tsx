import { cx } from './cx';
import { visiblePieces } from './visible-text';

interface RawTextProps {
  text: string;
  /** One line, cut with an ellipsis; the whole text is in the title. */
  oneLine?: boolean;
  className?: string;
}

/** Text that came from a host: command lines, paths, names. Only ever text, in monospace, nothing hidden. */
export function RawText({ text, oneLine, className }: RawTextProps) {
  const pieces = visiblePieces(text);
  return (
    <span
      dir="ltr"
      title={oneLine ? text : undefined}
      className={cx(
        'font-mono text-xs',
        oneLine ? 'block truncate' : 'whitespace-pre-wrap [overflow-wrap:anywhere]',
        className,
      )}
    >
      {pieces.map((piece, index) =>
        piece.hidden ? (
          <span key={index} className="mx-px rounded bg-warn-soft px-0.5 text-warn">
            {piece.text}
          </span>
        ) : (
          piece.text
        ),
      )}
    </span>
  );
}
