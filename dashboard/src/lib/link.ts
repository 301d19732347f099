/** The live line to the server: opens the event stream, reads it, notices when it is dead, opens it again.
 *
 * It resumes where it was (Last-Event-ID), waits longer after each failure, and treats silence as failure: a
 * server that lives sends at least a comment every HEARTBEAT_S. What the events mean is not known here. */

import { SseParser, type ServerEvent } from './sse';

export type LinkState =
  | { kind: 'connecting' }
  | { kind: 'live' }
  /** Lost at `since`; the next try is at `retryAt` (0 while one is under way). Both in ms since 1970. */
  | { kind: 'reconnecting'; since: number; retryAt: number; why: string }
  /** The server wants a token, or did not accept ours. */
  | { kind: 'locked'; refused: boolean };

export interface LinkOptions {
  url: () => string;
  token: () => string | undefined;
  onEvent: (event: ServerEvent) => void;
  onState: (state: LinkState) => void;
  /** Any sign of life: used for "last heard". */
  onHeard?: () => void;
  fetch?: typeof fetch;
  now?: () => number;
  random?: () => number;
}

/** Silence after which a stream counts as dead: three of the server's heartbeats of 15 s. */
export const SILENCE_MAX_MS = 45_000;
/** The first pause, until the server names one (`retry:`). */
export const FIRST_RETRY_MS = 500;
export const RETRY_MAX_MS = 15_000;

/** The pause before try number `attempt` (from 0): doubling, at most RETRY_MAX_MS, a quarter of it by chance,
 * so that a hundred open pages do not come back in the same instant. */
export function retryDelayMs(attempt: number, random: number, firstMs = FIRST_RETRY_MS): number {
  const full = Math.min(RETRY_MAX_MS, firstMs * 2 ** Math.min(attempt, 10));
  return Math.round(full * (0.75 + 0.25 * random));
}

export class Link {
  readonly #options: LinkOptions;
  #abort: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lastId = '';
  #attempt = 0;
  #lostAt = 0;
  #running = false;
  #firstMs = FIRST_RETRY_MS;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  get lastId(): string {
    return this.#lastId;
  }

  /** Start from an id; "" asks for everything. */
  start(lastId = ''): void {
    this.stop();
    this.#lastId = lastId;
    this.#attempt = 0;
    this.#lostAt = 0;
    this.#running = true;
    this.#options.onState({ kind: 'connecting' });
    void this.#run();
  }

  stop(): void {
    this.#running = false;
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = undefined;
  }

  /** Try at once instead of waiting for the next attempt's time: the user asked, or the network came back. */
  retryNow(): void {
    if (!this.#running || this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    void this.#run();
  }

  async #run(): Promise<void> {
    const abort = new AbortController();
    this.#abort = abort;
    let why: string;
    try {
      why = await this.#read(abort);
    } catch (error) {
      why =
        abort.signal.reason instanceof Error && abort.signal.reason.name === 'Silence'
          ? abort.signal.reason.message
          : messageOf(error);
    }
    if (!this.#running || this.#abort !== abort) return;
    if (why !== '') this.#retryLater(why);
  }

  /** Read until the stream ends; answers why it ended, "" if there is nothing to retry. */
  async #read(abort: AbortController): Promise<string> {
    const { url, token, onEvent, onState, onHeard } = this.#options;
    const headers: Record<string, string> = { Accept: 'text/event-stream' };
    const bearer = token();
    if (bearer) headers.Authorization = `Bearer ${bearer}`;
    if (this.#lastId) headers['Last-Event-ID'] = this.#lastId;
    const silence = new SilenceWatch(abort);
    try {
      const answer = await (this.#options.fetch ?? fetch)(url(), {
        headers,
        cache: 'no-store',
        signal: abort.signal,
      });
      if (answer.status === 401 || answer.status === 403) {
        this.#running = false;
        onState({ kind: 'locked', refused: bearer !== undefined });
        return '';
      }
      if (!answer.ok || !answer.body) return `the server answered ${answer.status}`;
      onState({ kind: 'live' });
      onHeard?.();
      const parser = new SseParser(
        {
          onEvent: (event) => {
            this.#attempt = 0;
            this.#lostAt = 0;
            onEvent(event);
          },
          onRetry: (delayMs) => (this.#firstMs = Math.min(RETRY_MAX_MS, Math.max(100, delayMs))),
        },
        this.#lastId,
      );
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (!this.#running) return '';
        if (done) return 'the server ended the stream';
        silence.reset();
        onHeard?.();
        parser.feed(value);
        this.#lastId = parser.lastId;
      }
    } finally {
      silence.end();
      abort.abort();
    }
  }

  #retryLater(why: string): void {
    const now = (this.#options.now ?? Date.now)();
    this.#lostAt ||= now;
    const delay = retryDelayMs(this.#attempt, (this.#options.random ?? Math.random)(), this.#firstMs);
    this.#attempt += 1;
    this.#options.onState({ kind: 'reconnecting', since: this.#lostAt, retryAt: now + delay, why });
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#options.onState({ kind: 'reconnecting', since: this.#lostAt, retryAt: 0, why });
      void this.#run();
    }, delay);
  }
}

class Silence extends Error {
  override name = 'Silence';
}

/** Ends a request on which nothing arrives for SILENCE_MAX_MS. */
class SilenceWatch {
  readonly #abort: AbortController;
  #timer: ReturnType<typeof setTimeout>;

  constructor(abort: AbortController) {
    this.#abort = abort;
    this.#timer = this.#arm();
  }

  reset(): void {
    clearTimeout(this.#timer);
    this.#timer = this.#arm();
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  #arm(): ReturnType<typeof setTimeout> {
    return setTimeout(() => {
      this.#abort.abort(new Silence(`nothing heard for ${SILENCE_MAX_MS / 1000} s`));
    }, SILENCE_MAX_MS);
  }
}

function messageOf(error: unknown): string {
  if (error instanceof TypeError) return 'the server is not reachable';
  return error instanceof Error ? error.message : String(error);
}
