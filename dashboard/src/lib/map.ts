/** The fleet as a map: a small square for each entity, always at the same place, in the colour of its health. */

import { comparePlace } from './query';
import { keyOf, type Entity } from './wire';

/** Sizes of a square in px, with its gap; the largest is taken that keeps a type within its height. */
const CELL_SIZES = [12, 10, 8, 6, 5, 4, 3, 2];

export interface MapLayout {
  cell: number;
  columns: number;
  rows: number;
}

export function layoutMap(count: number, width: number, heightMax: number): MapLayout {
  for (const cell of CELL_SIZES) {
    const columns = Math.max(1, Math.floor(width / cell));
    const rows = Math.ceil(count / columns);
    if (rows * cell <= heightMax || cell === CELL_SIZES.at(-1)) return { cell, columns, rows };
  }
  return { cell: 2, columns: 1, rows: count };
}

/** Which square is at a point; -1 for none. */
export function cellAt(layout: MapLayout, count: number, x: number, y: number): number {
  const column = Math.floor(x / layout.cell);
  if (column < 0 || column >= layout.columns || y < 0) return -1;
  const index = Math.floor(y / layout.cell) * layout.columns + column;
  return index < count ? index : -1;
}

/** Keys of each type in the order of their places: by scope, then by name as people count. */
export function placesOf(entities: Iterable<Entity>): Map<string, string[]> {
  const byType = new Map<string, Entity[]>();
  for (const entity of entities) {
    const some = byType.get(entity.entity_type);
    if (some) some.push(entity);
    else byType.set(entity.entity_type, [entity]);
  }
  return new Map([...byType].map(([type, some]) => [type, some.sort(comparePlace).map(keyOf)]));
}
