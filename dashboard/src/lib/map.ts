/** The fleet as a map: a small square for each entity, always at the same place, in the colour of its health. */

import { comparePlace } from './query';
import { HEALTHS, keyOf, type Entity, type Health } from './wire';

/** Sizes of a square in px, with its gap; the largest is taken that keeps a type within its height. */
const CELL_SIZES = [12, 10, 8, 6, 5, 4, 3];

export interface MapLayout {
  cell: number;
  columns: number;
  rows: number;
  /** Entities that one square stands for: more than one where even the smallest squares are too many. */
  per: number;
}

export function layoutMap(count: number, width: number, heightMax: number): MapLayout {
  let cell = 0;
  for (cell of CELL_SIZES) {
    const columns = Math.max(1, Math.floor(width / cell));
    const rows = Math.ceil(count / columns);
    if (rows * cell <= heightMax) return { cell, columns, rows, per: 1 };
  }
  const columns = Math.max(1, Math.floor(width / cell));
  const per = Math.ceil(count / (columns * Math.floor(heightMax / cell)));
  return { cell, columns, rows: Math.ceil(Math.ceil(count / per) / columns), per };
}

/** The indices [from, to) of the entities whose square is at a point; empty where there is none. */
export function cellAt(layout: MapLayout, count: number, x: number, y: number): [number, number] {
  const column = Math.floor(x / layout.cell);
  if (column < 0 || column >= layout.columns || y < 0) return [0, 0];
  const from = (Math.floor(y / layout.cell) * layout.columns + column) * layout.per;
  return from < count ? [from, Math.min(count, from + layout.per)] : [0, 0];
}

/** The worst of some entities; undefined for none. */
export function worstEntity(entities: (Entity | undefined)[]): Entity | undefined {
  let worst: Entity | undefined;
  for (const entity of entities) {
    if (entity && (!worst || HEALTH_RANKS[entity.health_state] < HEALTH_RANKS[worst.health_state]))
      worst = entity;
  }
  return worst;
}

const HEALTH_RANKS = Object.fromEntries(HEALTHS.map((health, rank) => [health, rank])) as Record<
  Health,
  number
>;

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
