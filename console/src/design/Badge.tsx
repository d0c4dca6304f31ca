import type { ReactNode } from 'react';

import { cx } from './cx';

export type Tone = 'neutral' | 'accent' | 'good' | 'warn' | 'bad';

const TONES: Record<Tone, string> = {
  neutral: 'bg-sunken text-muted border-line',
  accent: 'bg-accent-soft text-accent border-transparent',
  good: 'bg-good-soft text-good border-transparent',
  warn: 'bg-warn-soft text-warn border-transparent',
  bad: 'bg-bad-soft text-bad border-transparent',
};

interface BadgeProps {
  tone?: Tone;
  icon?: ReactNode;
  children: ReactNode;
  testId?: string;
  /** The word behind the text, for tests: it is the same in every language. */
  state?: string;
  title?: string;
}

export function Badge({ tone = 'neutral', icon, children, testId, state, title }: BadgeProps) {
  return (
    <span
      data-testid={testId}
      data-state={state}
      title={title}
      className={cx(
        'inline-flex h-5 items-center align-middle gap-1 rounded border px-1.5 text-2xs font-medium whitespace-nowrap [&_svg]:size-3',
        TONES[tone],
      )}
    >
      {icon}
      {children}
    </span>
  );
}
