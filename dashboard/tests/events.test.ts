import { describe, expect, test } from 'vitest';
import { readEvent } from '../src/lib/events';

const read = (name: string, data: unknown, id = '5'): ReturnType<typeof readEvent> =>
  readEvent({ id, name, data: typeof data === 'string' ? data : JSON.stringify(data) });

describe('events of the watch stream', () => {
  test('are told apart by name', () => {
    expect(read('hello', { revision: 4, heartbeat_s: 15 })).toEqual({ kind: 'hello', revision: 4 });
    expect(read('entity', { entity_id: 'a', entity_type: 'node', revision: 5 })).toMatchObject({
      kind: 'entity',
      entity: { entity_id: 'a', revision: 5 },
    });
    expect(
      read('gone', { entity_type: 'node', scope: 's', entity_id: 'a', revision: 6, deleted_at: 't' }),
    ).toEqual({
      kind: 'gone',
      type: 'node',
      scope: 's',
      id: 'a',
      revision: 6,
      deletedAt: 't',
    });
    expect(read('resync', { revision: 7, reason: 'slow_reader' })).toMatchObject({
      kind: 'resync',
      reason: 'slow_reader',
    });
    expect(read('bye', { revision: 8, reason: 'shutdown' })).toEqual({ kind: 'bye', reason: 'shutdown' });
  });
  test('without a revision inside take the id of the event', () => {
    expect(read('hello', {})).toEqual({ kind: 'hello', revision: 5 });
  });
  test.each([
    ['entity', '{"half":'],
    ['entity', 'null'],
    ['entity', {}],
    ['gone', { entity_id: 'a' }],
    ['of_the_future', { revision: 1 }],
  ])('%s with %j is left out', (name, data) => expect(read(name, data)).toBeUndefined());
});
