import { describe, expect, test } from 'vitest';
import { NO_FILTER, WORST_FIRST } from '../src/lib/query';
import { entitiesHref, entityHref, parseRoute } from '../src/lib/route';

describe('addresses', () => {
  test.each([
    'plain',
    'source/this-host',
    'a b',
    '100%',
    '#?&=',
    '..',
    '<img src=x onerror=alert(1)>',
    'ü/é',
    "it's",
  ])('an entity called %s is found again', (id) => {
    const href = entityHref({ entity_type: 'node', scope: `s${id}`, entity_id: id }, 'raw');
    expect(parseRoute(href)).toEqual({ view: 'entity', type: 'node', scope: `s${id}`, id, tab: 'raw' });
  });

  test('a filter and an order are found again', () => {
    const filter = {
      type: 'gpu',
      health: 'critical',
      scope: 'a/b',
      labels: ['x=1', 'y=a&b'],
      text: 'a>90% "q"',
    } as const;
    const sort = { field: 'gpu_utilization', descending: true };
    const route = parseRoute(entitiesHref({ ...filter, labels: [...filter.labels] }, sort));
    expect(route).toEqual({ view: 'entities', filter, sort });
  });

  test('no filter makes the short address', () => {
    expect(entitiesHref()).toBe('#/entities');
    expect(parseRoute('#/entities')).toEqual({ view: 'entities', filter: NO_FILTER, sort: WORST_FIRST });
  });

  test('what is not an address says so, and a broken escape is no crash', () => {
    expect(parseRoute('')).toEqual({ view: 'overview' });
    expect(parseRoute('#/nowhere/at/all')).toMatchObject({ view: 'unknown' });
    expect(parseRoute('#/entity/node/%E0%A4%A')).toMatchObject({ view: 'entity', id: '%E0%A4%A' });
    expect(parseRoute('#/entities?health=purple')).toMatchObject({
      view: 'entities',
      filter: { health: '' },
    });
  });
});
