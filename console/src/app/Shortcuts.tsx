import { useNavigate } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { useTranslation } from 'react-i18next';

import { Dialog } from '../design/Dialog';
import { PAGES } from './navigation';

const SECOND_KEY_WITHIN_MS = 1_200;
/** Zero would count as "just now" on a page that has just been opened. */
const NEVER = -Infinity;

/** Keys that work on every page, and the dialog that lists them. */
export function Shortcuts() {
  const { t } = useTranslation();
  const navigate = useNavigate();
  const [open, setOpen] = useState(false);

  useEffect(() => {
    let goPressedAt = NEVER;
    function onKey(event: KeyboardEvent) {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
      const afterGo = performance.now() - goPressedAt < SECOND_KEY_WITHIN_MS;
      goPressedAt = event.key === 'g' && !afterGo ? performance.now() : NEVER;
      if (afterGo) {
        const page = PAGES.find((one) => one.key === event.key);
        if (page) void navigate({ to: page.to });
        return;
      }
      if (event.key === '?') setOpen(true);
      if (event.key === '/') {
        const search = document.querySelector<HTMLElement>('[data-search]');
        if (search) {
          event.preventDefault();
          search.focus();
        }
      }
    }
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, [navigate]);

  const keys: [string, string][] = [
    ...PAGES.map((page): [string, string] => [`g ${page.key}`, t('shortcuts.goTo', { page: t(`nav.${page.id}`) })]),
    ['/', t('shortcuts.search')],
    ['j / ↓', t('shortcuts.nextRow')],
    ['k / ↑', t('shortcuts.previousRow')],
    ['Enter', t('shortcuts.openRow')],
    ['Esc', t('shortcuts.close')],
    ['?', t('shortcuts.this')],
  ];
  return (
    <Dialog open={open} onClose={() => setOpen(false)} title={t('shortcuts.title')} testId="shortcuts-dialog">
      <dl className="grid grid-cols-[auto_1fr] items-center gap-x-4 gap-y-2">
        {keys.map(([key, what]) => (
          <div key={key} className="contents">
            <dt>
              {key.split(' ').map((part, index) => (
                <kbd key={index} className="mr-1 rounded border border-line-strong bg-sunken px-1.5 py-0.5 font-mono text-xs">
                  {part}
                </kbd>
              ))}
            </dt>
            <dd className="text-muted">{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}

function isTyping(event: KeyboardEvent): boolean {
  // Inside a shadow root (the rule editor) the window sees only the host.
  const target = event.composedPath()[0];
  return target instanceof HTMLElement && (target.isContentEditable || target.matches('input,textarea,select'));
}
