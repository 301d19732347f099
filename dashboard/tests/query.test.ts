import { describe, expect, test } from 'vitest';
import { compileFilter, NO_FILTER, sortEntities, WORST_FIRST, type Filter } from '../src/lib/query';
import type { Entity } from '../src/lib/wire';
import { entity } from './make';

const FLEET: Entity[] = [
  entity('gpu-9', {
    entity_type: 'gpu',
    scope: 'east',
    gpu_utilization: 0.95,
    labels: { rack: 'r1', pool: 'train' },
  }),
  entity('gpu-10', {
    entity_type: 'gpu',
    scope: 'west',
    gpu_utilization: 0.2,
    health_state: 'critical',
    labels: { rack: 'r2' },
  }),
  entity('gpu-11', { entity_type: 'gpu', scope: 'west', health_state: 'unknown', confidence_score: 0.2 }),
  entity('api', {
    entity_type: 'service',
    health_state: 'warning',
    up: true,
    last_error: 'timeout from Upstream',
  }),
];

function found(part: Partial<Filter>): string[] {
  return FLEET.filter(compileFilter({ ...NO_FILTER, ...part })).map(({ entity_id }) => entity_id);
}

describe('filters', () => {
  test('none lets all through', () => expect(found({})).toHaveLength(4));
  test('type, health and scope must all match', () => {
    expect(found({ type: 'gpu', scope: 'west' })).toEqual(['gpu-10', 'gpu-11']);
    expect(found({ type: 'gpu', scope: 'west', health: 'critical' })).toEqual(['gpu-10']);
    expect(found({ type: 'service', health: 'critical' })).toEqual([]);
  });
  test('every label must match; a bare name asks that it is there', () => {
    expect(found({ labels: ['rack=r1', 'pool=train'] })).toEqual(['gpu-9']);
    expect(found({ labels: ['rack'] })).toEqual(['gpu-9', 'gpu-10']);
    expect(found({ labels: ['toString'] })).toEqual([]);
  });
});

describe('search', () => {
  test('words match names, scopes, labels and texts in any case, and all must', () => {
    expect(found({ text: 'GPU west' })).toEqual(['gpu-10', 'gpu-11']);
    expect(found({ text: 'upstream' })).toEqual(['api']);
    expect(found({ text: 'r1 train' })).toEqual(['gpu-9']);
    expect(found({ text: '  ' })).toHaveLength(4);
  });
  test('a field compares by number, also in percent; one without the field never matches', () => {
    expect(found({ text: 'gpu_utilization>0.9' })).toEqual(['gpu-9']);
    expect(found({ text: 'gpu_utilization>90%' })).toEqual(['gpu-9']);
    expect(found({ text: 'gpu_utilization<=20%' })).toEqual(['gpu-10']);
    expect(found({ text: 'confidence<0.5' })).toEqual(['gpu-11']);
  });
  test('name=value is a label or a field', () => {
    expect(found({ text: 'rack=r2' })).toEqual(['gpu-10']);
    expect(found({ text: 'health=warning' })).toEqual(['api']);
    expect(found({ text: 'up=yes' })).toEqual(['api']);
    expect(found({ text: 'gpu_utilization=0.2' })).toEqual(['gpu-10']);
  });
  test('what looks like a term but is none is a word', () => {
    expect(found({ text: 'gpu>' })).toEqual([]);
    expect(found({ text: '.*+?^${}()|[]\\' })).toEqual([]);
    expect(found({ text: 'rack=r' })).toEqual([]);
  });
});

describe('order', () => {
  const ids = (entities: Entity[]): string[] => entities.map(({ entity_id }) => entity_id);

  test('worst first, then names as people count', () => {
    expect(ids(sortEntities(FLEET, WORST_FIRST))).toEqual(['gpu-10', 'api', 'gpu-11', 'gpu-9']);
    expect(ids(sortEntities(FLEET, { field: 'entity_id', descending: false }))).toEqual([
      'api',
      'gpu-9',
      'gpu-10',
      'gpu-11',
    ]);
  });
  test('those without a value come last both ways', () => {
    const up = ids(sortEntities(FLEET, { field: 'gpu_utilization', descending: false }));
    const down = ids(sortEntities(FLEET, { field: 'gpu_utilization', descending: true }));
    expect(up.slice(0, 2)).toEqual(['gpu-10', 'gpu-9']);
    expect(down.slice(0, 2)).toEqual(['gpu-9', 'gpu-10']);
    expect(up.slice(2)).toEqual(down.slice(2));
  });
  test('is the same whatever order the entities came in, and leaves its input alone', () => {
    const backwards = [...FLEET].reverse();
    expect(ids(sortEntities(backwards, WORST_FIRST))).toEqual(ids(sortEntities(FLEET, WORST_FIRST)));
    expect(backwards[0]?.entity_id).toBe('api');
  });
});
