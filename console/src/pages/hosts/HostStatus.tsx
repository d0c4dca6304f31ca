import { useTranslation } from 'react-i18next';

import type { Host } from '../../api/types';
import { cx } from '../../design/cx';

/** Online, offline or revoked; a full, an empty and a crossed circle. */
export function HostStatus({ host }: { host: Pick<Host, 'online' | 'revoked'> }) {
  const { t } = useTranslation();
  const state = host.revoked ? 'revoked' : host.online ? 'online' : 'offline';
  const colour = { online: 'text-good', offline: 'text-warn', revoked: 'text-bad' }[state];
  return (
    <span className={cx('inline-flex items-center gap-1.5 text-xs font-medium whitespace-nowrap', colour)}>
      <svg viewBox="0 0 10 10" aria-hidden="true" className="size-2.5">
        {state === 'online' && <circle cx="5" cy="5" r="4.5" fill="currentColor" />}
        {state !== 'online' && <circle cx="5" cy="5" r="3.8" fill="none" stroke="currentColor" strokeWidth="1.5" />}
        {state === 'revoked' && <path d="M2.5 7.5l5-5" stroke="currentColor" strokeWidth="1.5" />}
      </svg>
      {t(`hosts.state.${state}`)}
    </span>
  );
}
