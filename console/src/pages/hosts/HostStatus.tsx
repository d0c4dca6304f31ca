import { useTranslation } from 'react-i18next';

import type { Host } from '../../api/types';
import { cx } from '../../design/cx';

type State = 'online' | 'offline' | 'silent' | 'stopped' | 'revoked';

/** What a host's links and its agent's words come to. */
export function hostState(host: Pick<Host, 'online' | 'revoked' | 'contact'>): State {
  if (host.revoked) return 'revoked';
  if (host.contact === 'silent') return 'silent';
  if (host.online) return 'online';
  return host.contact === 'stopped' ? 'stopped' : 'offline';
}

/** Online, offline, silent, stopped or revoked; a full, an empty, a dotted, a squared and a crossed circle. */
export function HostStatus({ host }: { host: Pick<Host, 'online' | 'revoked' | 'contact'> }) {
  const { t } = useTranslation();
  const state = hostState(host);
  const colour = { online: 'text-good', offline: 'text-warn', silent: 'text-bad', stopped: 'text-muted', revoked: 'text-bad' }[state];
  return (
    <span
      data-testid="host-state"
      data-state={state}
      className={cx('inline-flex items-center gap-1.5 text-xs font-medium whitespace-nowrap', colour)}
    >
      <svg viewBox="0 0 10 10" aria-hidden="true" className="size-2.5">
        {state === 'online' && <circle cx="5" cy="5" r="4.5" fill="currentColor" />}
        {state !== 'online' && <circle cx="5" cy="5" r="3.8" fill="none" stroke="currentColor" strokeWidth="1.5" />}
        {state === 'silent' && <circle cx="5" cy="5" r="1.6" fill="currentColor" />}
        {state === 'stopped' && <rect x="3.4" y="3.4" width="3.2" height="3.2" fill="currentColor" />}
        {state === 'revoked' && <path d="M2.5 7.5l5-5" stroke="currentColor" strokeWidth="1.5" />}
      </svg>
      {t(`hosts.state.${state}`)}
    </span>
  );
}
