// Every call that the console makes. Pages use these and know no paths.
import { client, unwrap } from './client';
import type { AlertChange, QueryOf, ResponseMode, Role, Settings } from './types';

export type AlertFilter = Omit<QueryOf<'list_alerts'>, 'cursor' | 'limit'>;
export type ResponseFilter = Omit<QueryOf<'list_responses'>, 'cursor' | 'limit'>;
export type EventFilter = Omit<QueryOf<'search_events'>, 'cursor' | 'limit'>;

const PAGE = 500;
const MOST_PAGES = 40;

/** Lists that the console filters by itself; bounded, so that no server can keep it busy for ever. */
async function allPages<T>(fetchPage: (cursor: string | undefined) => Promise<{ items: T[]; next_cursor: string | null }>) {
  const items: T[] = [];
  let cursor: string | undefined;
  for (let pages = 0; pages < MOST_PAGES; pages++) {
    const page = await fetchPage(cursor);
    items.push(...page.items);
    if (page.next_cursor === null) break;
    cursor = page.next_cursor;
  }
  return { items };
}

/** Files that agents detect with besides rules. */
export type ContentKind = 'yara' | 'indicators' | 'behaviours';

const at = (id: string) => ({ params: { path: { id } } });

const yaraFiles = {
  list: () => unwrap(client.GET('/api/v1/yara-files')),
  one: (name: string) => unwrap(client.GET('/api/v1/yara-files/{id}', at(name))),
  save: (name: string, text: string) => unwrap(client.PUT('/api/v1/yara-files/{id}', { ...at(name), body: { text } })),
  check: (name: string, text: string) => unwrap(client.POST('/api/v1/yara-files/{id}/check', { ...at(name), body: { text } })),
  remove: (name: string) => unwrap(client.DELETE('/api/v1/yara-files/{id}', at(name))),
};

const indicatorLists: typeof yaraFiles = {
  list: () => unwrap(client.GET('/api/v1/indicator-lists')),
  one: (name) => unwrap(client.GET('/api/v1/indicator-lists/{id}', at(name))),
  save: (name, text) => unwrap(client.PUT('/api/v1/indicator-lists/{id}', { ...at(name), body: { text } })),
  check: (name, text) => unwrap(client.POST('/api/v1/indicator-lists/{id}/check', { ...at(name), body: { text } })),
  remove: (name) => unwrap(client.DELETE('/api/v1/indicator-lists/{id}', at(name))),
};

const behaviourFiles: typeof yaraFiles = {
  list: () => unwrap(client.GET('/api/v1/behaviour-files')),
  one: (name) => unwrap(client.GET('/api/v1/behaviour-files/{id}', at(name))),
  save: (name, text) => unwrap(client.PUT('/api/v1/behaviour-files/{id}', { ...at(name), body: { text } })),
  check: (name, text) => unwrap(client.POST('/api/v1/behaviour-files/{id}/check', { ...at(name), body: { text } })),
  remove: (name) => unwrap(client.DELETE('/api/v1/behaviour-files/{id}', at(name))),
};

export const api = {
  content: { yara: yaraFiles, indicators: indicatorLists, behaviours: behaviourFiles } satisfies Record<ContentKind, unknown>,
  behaviours: () => unwrap(client.GET('/api/v1/behaviours')),
  changeBehaviour: (id: string, body: { enabled?: boolean; weight?: number }) =>
    unwrap(client.PATCH('/api/v1/behaviours/{id}', { ...at(id), body })),
  previewException: (ruleId: string, exception: string) =>
    unwrap(client.POST('/api/v1/rules/{id}/exceptions/preview', { ...at(ruleId), body: { text: exception } })),

  session: () => unwrap(client.GET('/api/v1/session')),
  signIn: (username: string, password: string) => unwrap(client.POST('/api/v1/session', { body: { username, password } })),
  signOut: () => unwrap(client.DELETE('/api/v1/session')),
  changePassword: (current_password: string, new_password: string) =>
    unwrap(client.PUT('/api/v1/session/password', { body: { current_password, new_password } })),

  dashboard: () => unwrap(client.GET('/api/v1/dashboard')),

  hosts: () => allPages((cursor) => unwrap(client.GET('/api/v1/hosts', { params: { query: { cursor, limit: PAGE } } }))),
  host: (id: string) => unwrap(client.GET('/api/v1/hosts/{id}', at(id))),
  hostAccount: (id: string) => unwrap(client.GET('/api/v1/hosts/{id}/account', at(id))),
  hostCoverage: (id: string) => unwrap(client.GET('/api/v1/hosts/{id}/coverage', at(id))),
  revokeHost: (id: string) => unwrap(client.POST('/api/v1/hosts/{id}/revoke', at(id))),

  events: (filter: EventFilter, cursor?: string, limit = 200) =>
    unwrap(client.GET('/api/v1/events', { params: { query: { ...filter, cursor, limit } } })),
  event: (id: string) => unwrap(client.GET('/api/v1/events/{id}', at(id))),
  histogram: (query: QueryOf<'histogram'>) => unwrap(client.GET('/api/v1/events/histogram', { params: { query } })),
  fields: () => unwrap(client.GET('/api/v1/fields')),

  alerts: (filter: AlertFilter, cursor?: string, limit = 100) =>
    unwrap(client.GET('/api/v1/alerts', { params: { query: { ...filter, cursor, limit } } })),
  alert: (id: string) => unwrap(client.GET('/api/v1/alerts/{id}', at(id))),
  changeAlert: (id: string, change: AlertChange) => unwrap(client.PATCH('/api/v1/alerts/{id}', { ...at(id), body: change })),

  responses: (filter: ResponseFilter, cursor?: string, limit = 100) =>
    unwrap(client.GET('/api/v1/responses', { params: { query: { ...filter, cursor, limit } } })),
  response: (id: string) => unwrap(client.GET('/api/v1/responses/{id}', at(id))),
  decideResponse: (id: string, approve: boolean) =>
    unwrap(client.POST('/api/v1/responses/{id}/decision', { ...at(id), body: { approve } })),
  releaseCode: (id: string) => unwrap(client.GET('/api/v1/responses/{id}/release-code', at(id))),
  undoResponse: (id: string) => unwrap(client.POST('/api/v1/responses/{id}/undo', at(id))),
  cancelResponse: (id: string) => unwrap(client.DELETE('/api/v1/responses/{id}', at(id))),
  /** Removes what an order put into the vault of its host, for good. */
  deleteQuarantined: (hostId: string, orderId: string, comment: string) =>
    unwrap(
      client.POST('/api/v1/hosts/{id}/responses', {
        ...at(hostId),
        // Which parameters there are depends on the action; the document has no word for that.
        body: { action: 'delete_quarantined_file', parameters: { item: orderId } as Record<string, unknown> as Record<string, never>, comment },
      }),
    ),

  playbookRuns: (filter: { alert?: string }) =>
    unwrap(client.GET('/api/v1/playbook-runs', { params: { query: { ...filter, limit: 50 } } })),
  playbookRun: (id: string) => unwrap(client.GET('/api/v1/playbook-runs/{id}', at(id))),
  requestPlaybookRun: (alert: string, playbook: string, dryRun: boolean) =>
    unwrap(client.POST('/api/v1/playbook-runs', { body: { alert_id: alert, playbook, dry_run: dryRun } })),
  undoPlaybookRun: (id: string) => unwrap(client.POST('/api/v1/playbook-runs/{id}/undo', at(id))),

  rules: () => unwrap(client.GET('/api/v1/rules')),
  rule: (id: string) => unwrap(client.GET('/api/v1/rules/{id}', at(id))),
  createRule: (text: string) => unwrap(client.POST('/api/v1/rules', { body: { text } })),
  importRules: (text: string) => unwrap(client.POST('/api/v1/rules/import', { body: { text } })),
  ruleCoverage: (id: string) => unwrap(client.GET('/api/v1/rules/{id}/coverage', at(id))),
  saveRule: (id: string, text: string) => unwrap(client.PUT('/api/v1/rules/{id}', { ...at(id), body: { text } })),
  changeRule: (id: string, change: { enabled?: boolean; mode?: ResponseMode }) =>
    unwrap(client.PATCH('/api/v1/rules/{id}', { ...at(id), body: change })),
  deleteRule: (id: string) => unwrap(client.DELETE('/api/v1/rules/{id}', at(id))),
  checkRule: (text: string) => unwrap(client.POST('/api/v1/rules/check', { body: { text } })),

  users: () => unwrap(client.GET('/api/v1/users')),
  createUser: (body: { username: string; password: string; role: Role }) => unwrap(client.POST('/api/v1/users', { body })),
  changeUser: (username: string, body: { role?: Role; disabled?: boolean; new_password?: string }) =>
    unwrap(client.PATCH('/api/v1/users/{id}', { ...at(username), body })),
  deleteUser: (username: string) => unwrap(client.DELETE('/api/v1/users/{id}', at(username))),

  enrollmentTokens: () => unwrap(client.GET('/api/v1/enrollment-tokens')),
  createEnrollmentToken: (body: { ttl_seconds: number; uses: number }) =>
    unwrap(client.POST('/api/v1/enrollment-tokens', { body })),
  deleteEnrollmentToken: (id: string) => unwrap(client.DELETE('/api/v1/enrollment-tokens/{id}', at(id))),

  apiTokens: () => unwrap(client.GET('/api/v1/api-tokens')),
  createApiToken: (body: { name: string; role: Role; ttl_days: number }) => unwrap(client.POST('/api/v1/api-tokens', { body })),
  deleteApiToken: (id: string) => unwrap(client.DELETE('/api/v1/api-tokens/{id}', at(id))),

  settings: () => unwrap(client.GET('/api/v1/settings')),
  saveSettings: (body: Settings) => unwrap(client.PUT('/api/v1/settings', { body })),
  keys: () => unwrap(client.GET('/api/v1/settings/keys')),
  ingest: () => unwrap(client.GET('/api/v1/ingest')),
  audit: (cursor?: string) => unwrap(client.GET('/api/v1/audit', { params: { query: { cursor, limit: 100 } } })),
};
