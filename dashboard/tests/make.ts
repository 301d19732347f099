/** Entities for tests. */
import type { Entity } from '../src/lib/wire';

let revision = 0;

export function entity(id: string, more: Partial<Entity> = {}): Entity {
  revision += 1;
  return {
    entity_id: id,
    entity_type: 'node',
    scope: '',
    health_state: 'healthy',
    health_reasons: [],
    confidence_score: 1,
    freshness: 'fresh',
    observed_at: '2026-01-01T00:00:00Z',
    labels: {},
    sources: ['host'],
    revision,
    ...more,
  };
}
