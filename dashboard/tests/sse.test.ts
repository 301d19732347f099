import { describe, expect, test } from 'vitest';
import { EVENT_MAX_CHARS, SseParser, StreamBroken, type ServerEvent } from '../src/lib/sse';

function parse(
  pieces: string[],
  lastId = '',
): { events: ServerEvent[]; comments: string[]; retries: number[] } {
  const events: ServerEvent[] = [];
  const comments: string[] = [];
  const retries: number[] = [];
  const parser = new SseParser(
    {
      onEvent: (event) => events.push(event),
      onComment: (text) => comments.push(text),
      onRetry: (ms) => retries.push(ms),
    },
    lastId,
  );
  for (const piece of pieces) parser.feed(piece);
  return { events, comments, retries };
}

const STREAM =
  'retry: 2000\n\nid: 1\nevent: hello\ndata: {"a":1}\n\n: still here\n\n' +
  'id: 2\r\nevent: entity\r\ndata: é \u{1F600}\r\ndata:second\r\n\r\nid: 3\revent: gone\rdata\r\rdata: no id of its own\n\n';

describe('the event stream', () => {
  const whole = parse([STREAM]);

  test('is read as the standard says', () => {
    expect(whole.events).toEqual([
      { id: '1', name: 'hello', data: '{"a":1}' },
      { id: '2', name: 'entity', data: 'é \u{1F600}\nsecond' },
      { id: '3', name: 'gone', data: '' },
      { id: '3', name: 'message', data: 'no id of its own' },
    ]);
    expect(whole.comments).toEqual(['still here']);
    expect(whole.retries).toEqual([2000]);
  });

  test('reads the same wherever it is cut in two', () => {
    for (let cut = 0; cut <= STREAM.length; cut += 1) {
      expect(parse([STREAM.slice(0, cut), STREAM.slice(cut)])).toEqual(whole);
    }
  });

  test('reads the same one character at a time', () => {
    expect(parse([...STREAM].flatMap((char) => char.split('')))).toEqual(whole);
  });

  test('drops a byte order mark at its start and nowhere else', () => {
    expect(parse(['\uFEFFdata: a\n\ndata: \uFEFFb\n\n']).events.map(({ data }) => data)).toEqual([
      'a',
      '\uFEFFb',
    ]);
  });

  test('keeps the id it was resumed with, and ignores one with a NUL', () => {
    expect(parse(['id: 9\0\ndata: x\n\n'], '7').events).toEqual([{ id: '7', name: 'message', data: 'x' }]);
  });

  test('a heartbeat moves the id on without an event; an unfinished event does not', () => {
    const events: ServerEvent[] = [];
    const parser = new SseParser({ onEvent: (event) => events.push(event) }, '7');
    parser.feed(': still here\nid: 8\n\nid: 9\ndata: half');
    expect(parser.lastId).toBe('8');
    parser.feed('\n\n');
    expect(parser.lastId).toBe('9');
    expect(events).toEqual([{ id: '9', name: 'message', data: 'half' }]);
  });

  test('an unfinished event is not told', () => {
    expect(parse(['id: 4\ndata: half']).events).toEqual([]);
  });

  test('a field that is unknown, and a retry that is no number, are left out', () => {
    const { events, retries } = parse(['retry: soon\nfoo: bar\ndata: x\n\n']);
    expect(events).toHaveLength(1);
    expect(retries).toEqual([]);
  });

  test('an event without end breaks the stream instead of filling the memory', () => {
    const parser = new SseParser({ onEvent: () => undefined });
    const piece = `${'x'.repeat(16 * 1024 * 1024)}`;
    expect(() => {
      for (let size = 0; size <= EVENT_MAX_CHARS + piece.length; size += piece.length) parser.feed(piece);
    }).toThrow(StreamBroken);
  });
});
