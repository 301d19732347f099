import { describe, expect, test } from 'vitest';
import { cellAt, layoutMap, placesOf } from '../src/lib/map';
import { keyOf } from '../src/lib/wire';
import { entity } from './make';

describe('the map', () => {
  test.each([1, 10, 288, 12_500, 100_000])(
    'of %d entities keeps within its height, or takes the smallest squares',
    (count) => {
      const layout = layoutMap(count, 420, 96);
      expect(layout.rows * layout.columns).toBeGreaterThanOrEqual(count);
      expect(layout.columns * layout.cell).toBeLessThanOrEqual(420);
      expect(layout.rows * layout.cell <= 96 || layout.cell === 2).toBe(true);
    },
  );
  test('finds the square at a point, and none beside the last', () => {
    const layout = layoutMap(50, 420, 96);
    expect(cellAt(layout, 50, 0, 0)).toBe(0);
    expect(cellAt(layout, 50, layout.cell * 3 + 1, layout.cell + 1)).toBe(layout.columns + 3);
    expect(cellAt(layout, 50, layout.cell * 30, layout.cell + 1)).toBe(-1);
    expect(cellAt(layout, 50, 419.9, 0)).toBe(layout.columns * layout.cell > 419.9 ? layout.columns - 1 : -1);
    expect(cellAt(layout, 50, -1, 0)).toBe(-1);
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
