import { describe, expect, test } from 'vitest';
import { reasonOf, worstEntities } from '../src/lib/attention';
import { columnsOf, factsOf } from '../src/lib/columns';
import { describeCommand, shellWord } from '../src/lib/command';
import { TYPE_ORDER } from '../src/lib/format';
import { columnsFor } from '../src/lib/grid';
import { labelsOf } from '../src/lib/labels';
import { referenceOf, relatedTo } from '../src/lib/related';
import { isAnother, scriptOf } from '../src/lib/release';
import { keyOf } from '../src/lib/wire';
import { entity } from './make';

describe('what needs attention', () => {
  const fleet = [
    entity('ok'),
    entity('w', { health_state: 'warning' }),
    entity('c2', { health_state: 'critical', confidence_score: 0.4 }),
    entity('c1', { health_state: 'critical', confidence_score: 0.9 }),
    entity('u', { health_state: 'unknown' }),
    entity('d', { health_state: 'degraded' }),
  ];
  test('is worst first, best known first, and never what is merely unknown', () => {
    expect(worstEntities(fleet, 10).map(({ entity_id }) => entity_id)).toEqual(['c1', 'c2', 'd', 'w']);
    expect(worstEntities(fleet, 3).map(({ entity_id }) => entity_id)).toEqual(['c1', 'c2', 'd']);
  });
  test('the reason told is the one that decided', () => {
    const reasons = [
      { rule: 'a', health: 'warning' as const, detail: 'warm' },
      { rule: 'b', health: 'critical' as const, detail: 'on fire' },
    ];
    expect(reasonOf(entity('x', { health_state: 'critical', health_reasons: reasons }))).toBe('on fire');
    expect(reasonOf(entity('x'))).toBe('');
  });
});

describe('columns', () => {
  test.each(TYPE_ORDER)('of %s name fields that it has', (type) => {
    const columns = columnsOf(type);
    expect(columns.length).toBeGreaterThan(1);
    for (const { field, bar } of columns) {
      expect(factsOf(type, field), field).toBeDefined();
      if (bar) expect(factsOf(type, field)?.unit, field).toBe('1');
    }
  });
  test('a type that nobody knows still has a table', () => {
    expect(columnsFor('of_the_future', true).map(({ field }) => field)).toContain('entity_id');
  });
  test('the scope has a column only where there are several', () => {
    expect(columnsFor('node', false).some(({ field }) => field === 'scope')).toBe(false);
  });
});

describe('the command line', () => {
  test.each([
    ['node/gpu-07', 'node/gpu-07'],
    ['a b', "'a b'"],
    ["it's", "'it'\\''s'"],
    ['$(rm -rf ~)', "'$(rm -rf ~)'"],
    ['', "''"],
  ])('%s is typed as %s', (text, typed) => expect(shellWord(text)).toBe(typed));
  test('names the scope where there is one', () => {
    expect(describeCommand({ entity_type: 'node', scope: 'hpc-1', entity_id: 'n1' })).toBe(
      'steersman describe node/n1 --scope hpc-1',
    );
    expect(describeCommand({ entity_type: 'node', scope: '', entity_id: 'n1' })).toBe(
      'steersman describe node/n1',
    );
  });
});

test('labels to choose from come the most common first, of the type asked for', () => {
  const fleet = [
    entity('a', { labels: { rack: 'r1', tier: 'x' } }),
    entity('b', { labels: { rack: 'r1' } }),
    entity('c', { entity_type: 'gpu', labels: { pool: 'p' } }),
  ];
  expect(labelsOf(fleet, 'node')).toEqual(['rack=r1', 'tier=x']);
  expect(labelsOf(fleet, '')).toContain('pool=p');
});

test('entities that name another are found from both sides, within their scope', () => {
  const node = entity('n1', { scope: 'a' });
  const gpu = entity('g1', { entity_type: 'gpu', scope: 'a', node: 'n1' });
  const far = entity('g2', { entity_type: 'gpu', scope: 'b', node: 'n1' });
  const service = entity('api', { entity_type: 'service', scope: 'a' });
  const deployment = entity('api', { entity_type: 'deployment', scope: 'a' });
  const fleet = [node, gpu, far, service, deployment];
  expect(referenceOf(gpu, 'node')).toBe(keyOf(node));
  expect(referenceOf(gpu, 'model_name')).toBeUndefined();
  expect(relatedTo(node, fleet)).toEqual([keyOf(gpu)]);
  expect(relatedTo(service, fleet)).toEqual([keyOf(deployment)]);
});

describe('an upgrade of the server', () => {
  const html = '<script type="module" crossorigin src="./assets/index-BAVGJN_k.js"></script>';
  test('is seen by the name of the script', () => {
    expect(scriptOf(html)).toBe('index-BAVGJN_k.js');
    expect(isAnother(html, 'http://127.0.0.1:7440/assets/index-BAVGJN_k.js')).toBe(false);
    expect(isAnother(html, 'http://127.0.0.1:7440/assets/index-AAAAAAAA.js')).toBe(true);
  });
  test('is not seen in a page that is none of ours', () => {
    expect(isAnother('<h1>Steersman is running</h1>', 'http://127.0.0.1:7440/assets/index-AAAAAAAA.js')).toBe(
      false,
    );
  });
});
