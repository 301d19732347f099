import { describe, expect, test } from 'vitest';
import { cellAt, layoutMap, placesOf, worstEntity } from '../src/lib/map';
import { keyOf } from '../src/lib/wire';
import { entity } from './make';

describe('the map', () => {
  test.each([0, 1, 10, 288, 12_500, 112_500, 150_000])('of %d entities keeps within its height', (count) => {
    for (const width of [1, 120, 420]) {
      const { cell, columns, rows, per } = layoutMap(count, width, 96);
      expect(rows * columns * per).toBeGreaterThanOrEqual(count);
      expect(rows * cell).toBeLessThanOrEqual(96);
      if (per > 1) expect(cell).toBe(3);
    }
  });
  test('finds the square at a point, and none beside the last', () => {
    const layout = layoutMap(50, 420, 96);
    expect(cellAt(layout, 50, 0, 0)).toEqual([0, 1]);
    expect(cellAt(layout, 50, layout.cell * 3 + 1, layout.cell + 1)).toEqual([
      layout.columns + 3,
      layout.columns + 4,
    ]);
    expect(cellAt(layout, 50, layout.cell * 30, layout.cell + 1)).toEqual([0, 0]);
    expect(cellAt(layout, 50, -1, 0)).toEqual([0, 0]);
  });
  test('a square that stands for many shows the worst of them, and the last one stands for the rest', () => {
    const layout = { cell: 3, columns: 4, rows: 2, per: 10 };
    expect(cellAt(layout, 75, 4, 0)).toEqual([10, 20]);
    expect(cellAt(layout, 75, 10, 4)).toEqual([70, 75]);
    const [ok, bad] = [entity('a'), entity('b', { health_state: 'critical' })];
    expect(worstEntity([ok, undefined, bad, entity('c', { health_state: 'warning' })])).toBe(bad);
    expect(worstEntity([])).toBeUndefined();
  });
  test('keeps places by scope and name, whatever the order of arrival', () => {
    const [a, b, c] = [
      entity('n2', { scope: 'x' }),
      entity('n10', { scope: 'x' }),
      entity('n1', { scope: 'y' }),
    ];
    expect(placesOf([c, b, a]).get('node')).toEqual([a, b, c].map(keyOf));
  });
});
