import { useSyncExternalStore } from 'react';

export type ThemeChoice = 'system' | 'light' | 'dark';

const KEY = 'rampart-theme';
const ORDER: ThemeChoice[] = ['system', 'light', 'dark'];
const systemDark = window.matchMedia('(prefers-color-scheme: dark)');
const listeners = new Set<() => void>();

let choice: ThemeChoice = ORDER.find((one) => one === localStorage.getItem(KEY)) ?? 'system';

function apply() {
  document.documentElement.dataset.theme = resolved();
  for (const listener of listeners) listener();
}

function resolved(): 'light' | 'dark' {
  return choice === 'system' ? (systemDark.matches ? 'dark' : 'light') : choice;
}

/** Call once before the first render. */
export function startTheme() {
  apply();
  systemDark.addEventListener('change', apply);
}

export function nextTheme() {
  choice = ORDER[(ORDER.indexOf(choice) + 1) % ORDER.length] ?? 'system';
  localStorage.setItem(KEY, choice);
  apply();
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** What was chosen, and what it comes to on this machine now. */
export function useTheme(): { choice: ThemeChoice; resolved: 'light' | 'dark' } {
  return {
    choice: useSyncExternalStore(subscribe, () => choice),
    resolved: useSyncExternalStore(subscribe, resolved),
  };
}
