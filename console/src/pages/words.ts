// The API's closed lists of words, in the order in which the console shows them.
import type { CloseReason, ResponseMode, Role, Severity } from '../api/types';

export const SEVERITIES: Severity[] = ['critical', 'high', 'medium', 'low', 'informational'];
export const CLOSE_REASONS: CloseReason[] = ['true_positive', 'false_positive', 'benign', 'duplicate'];
export const MODES: ResponseMode[] = ['off', 'detect', 'shadow', 'ask', 'auto'];
export const ROLES: Role[] = ['viewer', 'analyst', 'responder', 'playbook_runner', 'detection_engineer', 'approver', 'auditor', 'administrator'];
export const RULE_TYPES = ['process', 'network', 'file', 'registry', 'attack', 'event_log'] as const;
/** Actions that change something on the endpoint; the others only report. */
export const RESPONSE_ACTIONS = [
  'terminate_process',
  'quarantine_file',
  'block_connection',
  'kill_tree',
  'isolate_host',
  'collect_evidence',
];
