// One stream for the whole console: alerts and hosts as they change. Pages that
// show them are fetched again, at most every so often.
import { useQueryClient } from '@tanstack/react-query';
import { type ReactNode, createContext, useContext, useEffect, useMemo, useRef } from 'react';

import { type StreamState, useStream } from './stream';

const REFRESH_MS = 1_500;
const LiveContext = createContext<{ state: StreamState }>({ state: 'off' });

export function useLive() {
  return useContext(LiveContext);
}

export function LiveProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const pending = useRef(new Set<string>());
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);

  function refreshSoon(...keys: string[]) {
    for (const key of keys) pending.current.add(key);
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      for (const key of pending.current) void client.invalidateQueries({ queryKey: [key] });
      pending.current.clear();
    }, REFRESH_MS);
  }
  useEffect(() => () => clearTimeout(timer.current), []);

  // Of the events only gaps: thousands a second would come otherwise, and the
  // dashboard asks for its counts by itself.
  const state = useStream(LIVE_FILTER, {
    onAlert: () => refreshSoon('alerts', 'dashboard'),
    onHost: () => refreshSoon('hosts', 'dashboard'),
    onEvent: () => refreshSoon('dashboard'),
    onLagged: () => refreshSoon('alerts', 'hosts', 'dashboard'),
  });
  const value = useMemo(() => ({ state }), [state]);
  return <LiveContext value={value}>{children}</LiveContext>;
}

const LIVE_FILTER = { type: 'gap' };
