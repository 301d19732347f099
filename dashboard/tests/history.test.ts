import { expect, test } from 'vitest';
import { seriesOf, sparkPoints, stretchesOf } from '../src/lib/history';

const at = (second: number): string => new Date(second * 1000).toISOString();

test('each numeric field becomes a series with its own points', () => {
  const samples = [
    { at: at(1), values: { cpu: 0.1 } },
    { at: at(2), values: { cpu: 0.2, load: 3 } },
  ];
  expect(seriesOf({ samples, health: [] })).toEqual([
    {
      field: 'cpu',
      points: [
        [1000, 0.1],
        [2000, 0.2],
      ],
    },
    { field: 'load', points: [[2000, 3]] },
  ]);
});

test('health covers the whole time without gaps, unknown before it was known', () => {
  const changes = [
    { at: at(10), health: 'healthy' as const },
    { at: at(20), health: 'critical' as const },
  ];
  expect(stretchesOf(changes, 5000, 30_000)).toEqual([
    { health: 'unknown', from: 5000, to: 10_000 },
    { health: 'healthy', from: 10_000, to: 20_000 },
    { health: 'critical', from: 20_000, to: 30_000 },
  ]);
  expect(stretchesOf(changes, 12_000, 15_000)).toEqual([{ health: 'healthy', from: 12_000, to: 15_000 }]);
  expect(stretchesOf([], 0, 1000)).toEqual([{ health: 'unknown', from: 0, to: 1000 }]);
});

test('a line fills its box; a flat one runs through the middle; one point is no line', () => {
  expect(
    sparkPoints(
      [
        [0, 1],
        [10, 3],
        [20, 2],
      ],
      100,
      10,
    ),
  ).toBe('0.0,10.0 50.0,0.0 100.0,5.0');
  expect(
    sparkPoints(
      [
        [0, 4],
        [10, 4],
      ],
      100,
      10,
    ),
  ).toBe('0.0,5.0 100.0,5.0');
  expect(sparkPoints([[0, 4]], 100, 10)).toBe('');
});
