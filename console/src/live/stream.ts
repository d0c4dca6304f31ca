// Server-sent events: one connection for each use, opened again after a loss.
import { useEffect, useRef, useState } from 'react';

import { queryClient, sessionQuery } from '../app/session';
import { stringifySearch } from '../app/search-params';
import type { Alert, EcsDocument, Host } from '../api/types';

export interface StreamHandlers {
  onEvent?: (event: EcsDocument) => void;
  onAlert?: (alert: Alert) => void;
  onHost?: (host: Host) => void;
  /** The server left out so many because we were too slow. */
  onLagged?: (missed: number) => void;
}

export type StreamState = 'off' | 'connecting' | 'open';

const RETRY_MS = 3_000;

/** Follows events, alerts and hosts while `filter` is not null. */
export function useStream(filter: { host?: string; type?: string; q?: string } | null, handlers: StreamHandlers): StreamState {
  const [state, setState] = useState<StreamState>('off');
  const latest = useRef(handlers);
  useEffect(() => {
    latest.current = handlers;
  });
  const address = filter && `/api/v1/events/stream${stringifySearch(filter)}`;

  useEffect(() => {
    if (address === null) {
      setState('off');
      return;
    }
    let source: EventSource | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;

    function connect(url: string) {
      setState('connecting');
      source = new EventSource(url);
      source.onopen = () => setState('open');
      source.onerror = () => {
        setState('connecting');
        if (source?.readyState !== EventSource.CLOSED) return;
        // Refused for good: either the session is over, which the session
        // query finds out, or the server is restarting.
        void queryClient.invalidateQueries({ queryKey: sessionQuery.queryKey });
        timer = setTimeout(() => connect(url), RETRY_MS);
      };
      listen(source, 'event', (data) => latest.current.onEvent?.(data as EcsDocument));
      listen(source, 'alert', (data) => latest.current.onAlert?.(data as Alert));
      listen(source, 'host', (data) => latest.current.onHost?.(data as Host));
      listen(source, 'lagged', (data) => latest.current.onLagged?.((data as { missed: number }).missed));
    }

    connect(address);
    return () => {
      clearTimeout(timer);
      source?.close();
    };
  }, [address]);

  return state;
}

function listen(source: EventSource, name: string, handle: (data: unknown) => void) {
  source.addEventListener(name, (message: MessageEvent<string>) => {
    try {
      handle(JSON.parse(message.data));
    } catch (error) {
      console.error(`unreadable ${name} message`, error);
    }
  });
}
