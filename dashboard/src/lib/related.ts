/** How entities refer to each other: fields that hold the id of another entity of the same scope. */

import type { Entity } from './wire';
import { keyFrom, keyOf } from './wire';

const REFERENCES: Record<string, string> = {
  node: 'node',
  assigned_job_id: 'job',
  assigned_service_id: 'service',
};

/** The key of the entity that a field's value names; undefined for a field that names none. */
export function referenceOf(entity: Entity, field: string): string | undefined {
  const type = REFERENCES[field];
  const id = entity[field];
  return type === undefined || typeof id !== 'string' ? undefined : keyFrom(type, entity.scope, id);
}

/** Keys of those that name this entity (the GPUs of a node, say), and of its namesake deployment or service. */
export function relatedTo(entity: Entity, fleet: Iterable<Entity>): string[] {
  const key = keyOf(entity);
  const fields = Object.keys(REFERENCES).filter((field) => REFERENCES[field] === entity.entity_type);
  const twin = { service: 'deployment', deployment: 'service' }[entity.entity_type];
  const found: string[] = [];
  for (const other of fleet) {
    if (other.scope !== entity.scope) continue;
    const names = fields.some((field) => referenceOf(other, field) === key);
    if (names || (other.entity_type === twin && other.entity_id === entity.entity_id))
      found.push(keyOf(other));
  }
  return found;
}
