/** The shapes that the API sends, as far as the dashboard reads them. See docs/reference/http.md and
 * docs/reference/events.md. Everything is read with care: an unknown field is shown, never dropped. */

export const HEALTHS = ['critical', 'degraded', 'warning', 'unknown', 'healthy'] as const;
/** How well an entity does; in order of how much it wants attention. */
export type Health = (typeof HEALTHS)[number];

export const FRESHNESS = ['fresh', 'stale', 'expired'] as const;
export type Freshness = (typeof FRESHNESS)[number];

export interface HealthReason {
  rule: string;
  health: Health;
  detail: string;
}

/** One canonical entity. Its own fields stand beside the common ones. */
export interface Entity {
  entity_id: string;
  entity_type: string;
  scope: string;
  health_state: Health;
  health_reasons: HealthReason[];
  confidence_score: number;
  freshness: string;
  observed_at: string;
  deleted_at?: string | null;
  labels: Record<string, string>;
  sources: string[];
  revision: number;
  extra?: Record<string, unknown>;
  [field: string]: unknown;
}

/** Names that every entity has; all others are fields of its type. */
export const COMMON_NAMES: ReadonlySet<string> = new Set([
  'entity_id',
  'entity_type',
  'scope',
  'source_type',
  'scheduler_domain',
  'workload_type',
  'health_state',
  'health_reasons',
  'confidence_score',
  'freshness',
  'observed_at',
  'deleted_at',
  'labels',
  'sources',
  'revision',
  'extra',
]);

/** What makes two reports speak of one entity: type, scope and id, as one text that no two entities share. */
export function keyFrom(type: string, scope: string, id: string): string {
  return JSON.stringify([type, scope, id]);
}

export function keyOf(entity: Pick<Entity, 'entity_type' | 'scope' | 'entity_id'>): string {
  return keyFrom(entity.entity_type, entity.scope, entity.entity_id);
}

export function readHealth(value: unknown): Health {
  return HEALTHS.includes(value as Health) ? (value as Health) : 'unknown';
}

/** An entity from the wire, with what the dashboard relies on made sure of; undefined if it is none. */
export function readEntity(raw: unknown): Entity | undefined {
  if (typeof raw !== 'object' || raw === null) return undefined;
  const entity = raw as Record<string, unknown>;
  if (typeof entity.entity_id !== 'string' || typeof entity.entity_type !== 'string') return undefined;
  return {
    ...entity,
    entity_id: entity.entity_id,
    entity_type: entity.entity_type,
    scope: typeof entity.scope === 'string' ? entity.scope : '',
    health_state: readHealth(entity.health_state),
    health_reasons: Array.isArray(entity.health_reasons) ? (entity.health_reasons as HealthReason[]) : [],
    confidence_score: typeof entity.confidence_score === 'number' ? entity.confidence_score : 0,
    freshness: typeof entity.freshness === 'string' ? entity.freshness : 'expired',
    observed_at: typeof entity.observed_at === 'string' ? entity.observed_at : '',
    labels: isRecord(entity.labels) ? (entity.labels as Record<string, string>) : {},
    sources: Array.isArray(entity.sources) ? (entity.sources as string[]) : [],
    revision: typeof entity.revision === 'number' ? entity.revision : 0,
  };
}

/** An entity's own fields that have a value, declared ones first, then those in `extra`. */
export function ownFields(entity: Entity): [string, unknown][] {
  const own = Object.entries(entity).filter(
    ([name, value]) => !COMMON_NAMES.has(name) && value !== null && value !== undefined,
  );
  return own.concat(Object.entries(entity.extra ?? {}));
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** RFC 9457 problem, which every error of the API is. */
export interface Problem {
  title: string;
  status: number;
  detail: string;
  code: string;
}

/** How a source does: alive, failing (its last attempt failed), silent (not heard for five cadences) or unheard
 * (declared, nothing yet). */
export type SourceState = 'alive' | 'failing' | 'silent' | 'unheard';

export interface SourceStatus {
  name: string;
  source_type: string;
  cadence_s: number;
  priority: number;
  declared: boolean;
  state: SourceState;
  heard_at: string | null;
  silent_s: number | null;
  failures: number;
  detail: string;
}

/** A source's state in the colours of health. */
export function sourceHealth(state: string): Health {
  if (state === 'alive') return 'healthy';
  if (state === 'failing') return 'degraded';
  return state === 'silent' ? 'critical' : 'unknown';
}

/** What `.../explain` answers. */
export interface FieldExplanation {
  value: unknown;
  source: string;
  source_type: string;
  observed_at: string;
  received_at: string;
  freshness: string;
  pace: string;
  unit: string;
  skewed: boolean;
  cleared: boolean;
  others: { source: string; value: unknown; observed_at: string }[];
}

export interface Explanation {
  fields: Record<string, FieldExplanation>;
  labels: Record<string, { value: string; source: string; observed_at: string }>;
  freshness: { state: string; age_s: number };
  health: {
    health: Health;
    reasons: HealthReason[];
    conditions: { name: string; detail: string }[];
    unjudged: Record<string, string[]>;
    table: string;
  };
  confidence: { score: number; items: { name: string; score: number; detail: string }[] };
  sources: SourceStatus[];
}

/** What `.../history` answers; both oldest first. */
export interface EntityHistory {
  samples: { at: string; values: Record<string, number> }[];
  health: { at: string; health: Health }[];
}
