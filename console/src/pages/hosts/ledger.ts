import type { HostAccount, Ledger } from '../../api/types';

/**
 * What the agent numbered and the server has neither stored nor counted as
 * dropped: records on their way or in the agent's spool. Below zero the account
 * does not add up, which must be shown.
 */
export function unaccounted(ledger: Ledger): number {
  return ledger.produced - ledger.stored - ledger.dropped;
}

/**
 * Whether the account by kind adds up. More produced than accounted for: a loss is
 * not told yet, or it never will be. Less: it can't be right.
 */
export function balance(kinds: Pick<HostAccount['kinds'][number], 'difference'>[]): 'empty' | 'even' | 'onTheWay' | 'broken' {
  if (kinds.length === 0) return 'empty';
  if (kinds.some(({ difference }) => difference < 0)) return 'broken';
  return kinds.every(({ difference }) => difference === 0) ? 'even' : 'onTheWay';
}
