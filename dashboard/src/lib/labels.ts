/** Labels that occur, for a list to choose from: the most common first. */

import type { Entity } from './wire';

const OFFERED_MAX = 200;
/** Entities looked at: enough to know what is common. */
const LOOKED_AT_MAX = 20_000;

export function labelsOf(entities: Iterable<Entity>, type: string): string[] {
  const seen = new Map<string, number>();
  let looked = 0;
  for (const entity of entities) {
    if (type && entity.entity_type !== type) continue;
    for (const [name, value] of Object.entries(entity.labels)) {
      const label = `${name}=${value}`;
      seen.set(label, (seen.get(label) ?? 0) + 1);
    }
    looked += 1;
    if (looked >= LOOKED_AT_MAX) break;
  }
  return [...seen]
    .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
    .slice(0, OFFERED_MAX)
    .map(([label]) => label);
}
