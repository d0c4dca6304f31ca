import i18next from 'i18next';

import type { Diagnostic } from './types';

/** What the server says when it refuses: `application/problem+json`. */
interface ProblemBody {
  title?: string;
  code?: string;
  detail?: string;
  request_id?: string;
  diagnostics?: Diagnostic[];
}

export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly requestId: string | undefined;
  /** Of a rule that was refused. */
  readonly diagnostics: Diagnostic[];

  constructor(status: number, body: unknown) {
    const problem: ProblemBody = typeof body === 'object' && body !== null ? body : {};
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? `http_${status}`;
    this.requestId = problem.request_id;
    this.diagnostics = problem.diagnostics ?? [];
  }
}

/** One sentence for a person, in their language where we know the code; else with the code to look for. */
export function describeError(error: unknown): string {
  const text = errorText(error);
  const unknown = error instanceof ApiError && !i18next.exists(`errors.${error.code}`);
  return unknown ? `${text} (${error.code})` : text;
}

/** The sentence alone, where the code stands beside it. */
export function errorText(error: unknown): string {
  if (error instanceof ApiError) {
    const known = `errors.${error.code}`;
    return i18next.exists(known) ? i18next.t(known as 'errors.unreachable') : error.message;
  }
  // `fetch` throws a TypeError, worded by the browser, when no answer came.
  if (error instanceof TypeError) return i18next.t('errors.unreachable');
  return error instanceof Error ? error.message : String(error);
}
