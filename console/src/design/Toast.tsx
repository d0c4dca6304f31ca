import { CircleAlert, CircleCheck, X } from 'lucide-react';
import { type ReactNode, createContext, useCallback, useContext, useMemo, useRef, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { describeError } from '../api/problem';
import { cx } from './cx';

interface Toast {
  id: number;
  tone: 'good' | 'bad';
  text: string;
}

interface Toasts {
  done: (text: string) => void;
  failed: (error: unknown) => void;
}

const ToastContext = createContext<Toasts | null>(null);
const SHOWN_FOR_MS = 6_000;
const MOST_AT_ONCE = 4;

/** Says that something was done, or why it was not. */
export function useToast(): Toasts {
  const toasts = useContext(ToastContext);
  if (!toasts) throw new Error('useToast outside of ToastProvider');
  return toasts;
}

export function ToastProvider({ children }: { children: ReactNode }) {
  const { t } = useTranslation();
  const [toasts, setToasts] = useState<Toast[]>([]);
  const nextId = useRef(1);
  const drop = useCallback((id: number) => setToasts((all) => all.filter((toast) => toast.id !== id)), []);
  const add = useCallback(
    (tone: Toast['tone'], text: string) => {
      const id = nextId.current++;
      setToasts((all) => [...all, { id, tone, text }].slice(-MOST_AT_ONCE));
      setTimeout(() => drop(id), SHOWN_FOR_MS);
    },
    [drop],
  );
  const value = useMemo<Toasts>(
    () => ({ done: (text) => add('good', text), failed: (error) => add('bad', describeError(error)) }),
    [add],
  );
  return (
    <ToastContext value={value}>
      {children}
      <div aria-live="polite" className="pointer-events-none fixed right-4 bottom-16 z-60 flex w-80 max-w-[calc(100vw-2rem)] flex-col gap-2 md:bottom-4">
        {toasts.map((toast) => (
          <div
            key={toast.id}
            role={toast.tone === 'bad' ? 'alert' : 'status'}
            className="pointer-events-auto flex items-start gap-2 rounded-md border bg-raised p-3 text-sm pop-shadow"
          >
            {toast.tone === 'bad' ? (
              <CircleAlert aria-hidden="true" className="mt-0.5 size-4 shrink-0 text-bad" />
            ) : (
              <CircleCheck aria-hidden="true" className="mt-0.5 size-4 shrink-0 text-good" />
            )}
            <span className={cx('min-w-0 flex-1 [overflow-wrap:anywhere]')}>{toast.text}</span>
            <button type="button" aria-label={t('common.close')} onClick={() => drop(toast.id)} className="text-faint hover:text-ink">
              <X className="size-4" />
            </button>
          </div>
        ))}
      </div>
    </ToastContext>
  );
}
