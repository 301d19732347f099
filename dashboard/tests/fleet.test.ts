import { describe, expect, test } from 'vitest';
import { binOf, Fleet, totalOf, worstOf, emptyCounts } from '../src/lib/fleet';
import { keyOf, readEntity, HEALTHS } from '../src/lib/wire';
import { entity } from './make';

/** What the counts must be, worked out from scratch. */
function recount(fleet: Fleet): object {
  const fresh = new Fleet();
  for (const one of fleet.entities.values()) fresh.put(one);
  return tally(fresh);
}

function tally(fleet: Fleet): object {
  return {
    counts: { ...fleet.counts },
    byType: Object.fromEntries([...fleet.byType].map(([type, counts]) => [type, { ...counts }])),
    scopes: Object.fromEntries(fleet.scopes),
    confidence: [...fleet.confidence],
  };
}

describe('the fleet', () => {
  test('keeps its counts right through any run of changes', () => {
    const fleet = new Fleet();
    let seed = 7;
    const random = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % below;
    };
    for (let step = 0; step < 3000; step += 1) {
      const one = entity(`n${random(40)}`, {
        entity_type: ['node', 'gpu', 'job'][random(3)]!,
        scope: ['', 'a', 'b'][random(3)]!,
        health_state: HEALTHS[random(5)]!,
        confidence_score: random(101) / 100,
      });
      if (random(4) === 0) fleet.remove(keyOf(one), one.revision, '2026-01-01T00:00:00Z');
      else fleet.put(one);
    }
    expect(tally(fleet)).toEqual(recount(fleet));
    expect(totalOf(fleet.counts)).toBe(fleet.size);
  });

  test('an older revision never replaces a newer one, in whatever order list and stream arrive', () => {
    const fleet = new Fleet();
    const old = entity('a', { health_state: 'healthy' });
    const now = entity('a', { health_state: 'critical' });
    expect(fleet.put(now)).toBe(true);
    expect(fleet.put(old)).toBe(false);
    expect(fleet.counts.critical).toBe(1);
    fleet.remove(keyOf(now), now.revision + 1, '2026-01-01T00:00:00Z');
    expect(fleet.put(now)).toBe(false);
    expect(fleet.size).toBe(0);
    expect(fleet.gone.get(keyOf(now))?.deleted_at).toBe('2026-01-01T00:00:00Z');
  });

  test('a tombstone older than what is known takes nothing away', () => {
    const fleet = new Fleet();
    const one = entity('a');
    fleet.put(one);
    fleet.remove(keyOf(one), one.revision - 1, '');
    expect(fleet.size).toBe(1);
  });

  test('what a complete list no longer names goes', () => {
    const fleet = new Fleet();
    const [kept, lost] = [entity('a'), entity('b')];
    fleet.put(kept);
    fleet.put(lost);
    fleet.retain(new Set([keyOf(kept)]), '2026-01-01T00:00:00Z');
    expect([...fleet.entities.keys()]).toEqual([keyOf(kept)]);
    expect(tally(fleet)).toEqual(recount(fleet));
  });

  test('ids that differ only in where a mark stands are two entities', () => {
    expect(keyOf(entity('b","c', { scope: 'a' }))).not.toBe(keyOf(entity('c', { scope: 'a","b' })));
  });

  test('confidence falls into ten bins, the edges into the upper one', () => {
    expect([0, 0.0999, 0.1, 0.3, 0.7, 0.9999, 1, -1, 2].map(binOf)).toEqual([0, 0, 1, 3, 7, 9, 9, 0, 9]);
  });

  test('unknown is worse than healthy and better than a warning', () => {
    expect(worstOf({ ...emptyCounts(), healthy: 5, unknown: 1 })).toBe('unknown');
    expect(worstOf({ ...emptyCounts(), unknown: 5, warning: 1 })).toBe('warning');
    expect(worstOf(emptyCounts())).toBe('healthy');
  });
});

describe('entities from the wire', () => {
  test('a health that nobody knows is unknown, and what is missing is made up for', () => {
    const read = readEntity({ entity_id: 'a', entity_type: 'node', health_state: 'sparkling' });
    expect(read).toMatchObject({
      health_state: 'unknown',
      scope: '',
      labels: {},
      health_reasons: [],
      revision: 0,
    });
  });
  test.each([null, 'x', 7, [], {}, { entity_id: 7, entity_type: 'node' }])('%j is none', (raw) => {
    expect(readEntity(raw)).toBeUndefined();
  });
});
