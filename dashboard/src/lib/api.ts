/** Calls of the API: JSON in, typed errors out, the token sent as a header and never in an address. */

import type { Problem } from './wire';

/** Where the API is: beside the page, so that a path prefix in front of both does no harm. */
export function apiUrl(path: string): string {
  return new URL(`./${path.replace(/^\//, '')}`, document.baseURI.split('#')[0]).href;
}

const TOKEN_KEY = 'steersman.token';

/** The bearer token of this tab; it is gone when the tab is closed. */
export function getToken(): string | undefined {
  return sessionStorage.getItem(TOKEN_KEY) ?? undefined;
}

export function setToken(token: string | undefined): void {
  if (token) sessionStorage.setItem(TOKEN_KEY, token);
  else sessionStorage.removeItem(TOKEN_KEY);
}

/** An error that the API told, or that no answer came (status 0). */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Time for an answer. */
const ANSWER_TIMEOUT_MS = 20_000;

export interface Answer<T> {
  body: T;
  headers: Headers;
}

export function getJson<T>(path: string, signal?: AbortSignal): Promise<Answer<T>> {
  return call<T>('GET', path, undefined, signal);
}

/** Change something. Each call has an idempotency key of its own, so that an answer that was lost on the way does not
 * make a repetition by the browser act twice. */
export function sendJson<T>(method: string, path: string, body: unknown): Promise<Answer<T>> {
  return call<T>(method, path, body);
}

async function call<T>(
  method: string,
  path: string,
  sent: unknown,
  signal?: AbortSignal,
): Promise<Answer<T>> {
  const headers: Record<string, string> = { Accept: 'application/json' };
  const token = getToken();
  if (token) headers.Authorization = `Bearer ${token}`;
  if (sent !== undefined) {
    headers['Content-Type'] = 'application/json';
    headers['Idempotency-Key'] = newKey();
  }
  const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
  let response: Response;
  try {
    response = await fetch(apiUrl(path), {
      method,
      headers,
      body: sent === undefined ? null : JSON.stringify(sent),
      cache: 'no-store',
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(
      0,
      'unreachable',
      timeout.aborted ? 'no answer in time' : 'the server is not reachable',
    );
  }
  if (!response.ok) throw await problemOf(response);
  return { body: (await response.json()) as T, headers: response.headers };
}

function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function problemOf(response: Response): Promise<ApiError> {
  try {
    const problem = (await response.json()) as Partial<Problem>;
    return new ApiError(response.status, problem.code ?? '', problem.detail ?? problem.title ?? '');
  } catch {
    return new ApiError(response.status, '', `the server answered ${response.status}`);
  }
}

export function entityPath(type: string, id: string, scope: string, part = ''): string {
  const path = `api/v1/entities/${encodeURIComponent(type)}/${encodeURIComponent(id)}${part}`;
  return `${path}?scope=${encodeURIComponent(scope)}`;
}
