/** What to look at first. */

import type { Entity, Health } from './wire';

const WANTING: Health[] = ['critical', 'degraded', 'warning'];

/** The first `count` of those that want attention: worst first, then what is known best, then by id. One pass
 * over the fleet; only the few that can be shown are sorted. */
export function worstEntities(entities: Iterable<Entity>, count: number): Entity[] {
  const found = new Map<Health, Entity[]>(WANTING.map((health) => [health, []]));
  for (const entity of entities) found.get(entity.health_state)?.push(entity);
  const worst: Entity[] = [];
  for (const health of WANTING) {
    if (worst.length >= count) break;
    const some = found.get(health) ?? [];
    some.sort((a, b) => b.confidence_score - a.confidence_score || compareText(a.entity_id, b.entity_id));
    worst.push(...some.slice(0, count - worst.length));
  }
  return worst;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Why an entity is as it is, in one line: the reason that decided its health, else the first one. */
export function reasonOf(entity: Entity): string {
  const deciding = entity.health_reasons.find((reason) => reason.health === entity.health_state);
  return (deciding ?? entity.health_reasons[0])?.detail ?? '';
}
