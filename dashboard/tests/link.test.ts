/** The live line, over a fetch that answers as the test says, on virtual time. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Link, RETRY_MAX_MS, retryDelayMs, SILENCE_MAX_MS, type LinkState } from '../src/lib/link';
import type { ServerEvent } from '../src/lib/sse';

interface Call {
  headers: Record<string, string>;
  send(text: string): void;
  end(): void;
}

interface Rig {
  link: Link;
  states: LinkState[];
  events: ServerEvent[];
  calls: Call[];
}

function rig(statuses: number[] = [], token?: string): Rig {
  const states: LinkState[] = [];
  const events: ServerEvent[] = [];
  const calls: Call[] = [];
  const link = new Link({
    url: () => 'http://127.0.0.1/api/v1/watch',
    token: () => token,
    onEvent: (event) => events.push(event),
    onState: (state) => states.push(state),
    random: () => 1,
    fetch: ((_url: string, init: RequestInit) => {
      const status = statuses.shift() ?? 200;
      if (status === 0) return Promise.reject(new TypeError('failed to fetch'));
      let control!: ReadableStreamDefaultController<Uint8Array>;
      const body = new ReadableStream<Uint8Array>({ start: (given) => void (control = given) });
      init.signal?.addEventListener('abort', () => {
        try {
          control.error(init.signal?.reason);
        } catch {
          // Ended already.
        }
      });
      calls.push({
        headers: init.headers as Record<string, string>,
        send: (text) => control.enqueue(new TextEncoder().encode(text)),
        end: () => control.close(),
      });
      return Promise.resolve(new Response(body, { status }));
    }) as typeof fetch,
  });
  return { link, states, events, calls };
}

const kinds = (states: LinkState[]): string[] => states.map(({ kind }) => kind);
const settle = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('the line', () => {
  test('resumes after the last event it was given', async () => {
    const { link, states, events, calls } = rig();
    link.start();
    await settle();
    expect(calls[0]?.headers['Last-Event-ID']).toBeUndefined();
    calls[0]?.send('id: 41\nevent: hello\ndata: {}\n\nid: 42\ndata: {}\n\nid: 43\ndata: hal');
    await settle();
    calls[0]?.end();
    await settle(RETRY_MAX_MS);
    expect(calls[1]?.headers['Last-Event-ID']).toBe('42');
    expect(events).toHaveLength(2);
    expect(kinds(states)).toEqual(['connecting', 'live', 'reconnecting', 'reconnecting', 'live']);
    link.stop();
  });

  test('resumes after a heartbeat that moved its place on', async () => {
    const { link, events, calls } = rig();
    link.start();
    await settle();
    calls[0]?.send('id: 5\nevent: hello\ndata: {}\n\n: still here\nid: 90\n\n');
    await settle();
    calls[0]?.end();
    await settle(RETRY_MAX_MS);
    expect(calls[1]?.headers['Last-Event-ID']).toBe('90');
    expect(events).toHaveLength(1);
    link.stop();
  });

  test('says since when it is lost, from the first failure on', async () => {
    const { link, states } = rig([0, 0, 0]);
    link.start();
    await settle(5000);
    const lost = states.filter((state) => state.kind === 'reconnecting');
    expect(new Set(lost.map(({ since }) => since)).size).toBe(1);
    expect(lost[0]?.why).toBe('the server is not reachable');
    expect(states.at(-1)?.kind).toBe('live');
    link.stop();
  });

  test('takes silence for a failure', async () => {
    const { link, states, calls } = rig();
    link.start();
    await settle();
    calls[0]?.send(': \n\n');
    await settle(SILENCE_MAX_MS - 1);
    expect(states.at(-1)?.kind).toBe('live');
    await settle(2);
    expect(states.at(-1)).toMatchObject({ kind: 'reconnecting', why: 'nothing heard for 45 s' });
    link.stop();
  });

  test('a heartbeat keeps it', async () => {
    const { link, states, calls } = rig();
    link.start();
    for (let beat = 0; beat < 10; beat += 1) {
      await settle(15_000);
      calls[0]?.send(': \n\n');
    }
    await settle();
    expect(states.at(-1)?.kind).toBe('live');
    expect(calls).toHaveLength(1);
    link.stop();
  });

  test('asks for a token on 401 and does not knock again', async () => {
    const { link, states, calls } = rig([401]);
    link.start();
    await settle(120_000);
    expect(states.at(-1)).toEqual({ kind: 'locked', refused: false });
    expect(calls).toHaveLength(1);
  });

  test('says that a token was refused', async () => {
    const { link, states, calls } = rig([401], 'stm_x_y');
    link.start();
    await settle();
    expect(calls[0]?.headers.Authorization).toBe('Bearer stm_x_y');
    expect(states.at(-1)).toEqual({ kind: 'locked', refused: true });
  });

  test('a stop is final', async () => {
    const { link, calls } = rig([503]);
    link.start();
    await settle();
    link.stop();
    await settle(120_000);
    expect(calls).toHaveLength(1);
  });

  test('retries at once when asked', async () => {
    const { link, states, calls } = rig([503]);
    link.start();
    await settle();
    link.retryNow();
    await settle();
    expect(calls).toHaveLength(2);
    expect(states.at(-1)?.kind).toBe('live');
    link.stop();
  });
});

test('pauses double, are bounded, and differ by a quarter', () => {
  expect([0, 1, 2, 3].map((attempt) => retryDelayMs(attempt, 1))).toEqual([500, 1000, 2000, 4000]);
  expect(retryDelayMs(0, 0)).toBe(375);
  expect(retryDelayMs(999, 1)).toBe(RETRY_MAX_MS);
  expect(retryDelayMs(0, 1, 2000)).toBe(2000);
});
