import type { Ledger } from '../../api/types';

/**
 * What the agent numbered and the server has neither stored nor counted as
 * dropped: records on their way or in the agent's spool. Below zero the account
 * does not add up, which must be shown.
 */
export function unaccounted(ledger: Ledger): number {
  return ledger.produced - ledger.stored - ledger.dropped;
}
