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

const at = (id: string) => ({ params: { path: { id } } });

export const api = {
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
