import createClient from 'openapi-fetch';

import { ApiError } from './problem';
import type { paths } from './schema';

/** Typed by the OpenAPI document: a path or a parameter that the server does not know does not compile. */
export const client = createClient<paths>({ baseUrl: '/' });

let onSessionLost: () => void = () => {};

/** Says what to do when the server no longer knows our session. */
export function whenSessionIsLost(action: () => void) {
  onSessionLost = action;
}

/** The answer's content; throws an [ApiError] for a refusal. */
export async function unwrap<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await call;
  if (response.ok) return data as T;
  // At /session a 401 is an answer (nobody is signed in, wrong password), not a loss.
  if (response.status === 401 && !new URL(response.url).pathname.startsWith('/api/v1/session')) onSessionLost();
  throw new ApiError(response.status, error);
}
