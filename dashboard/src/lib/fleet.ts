/** The fleet as the page knows it: every entity by key, with counts kept up to date as changes arrive.
 *
 * Pure bookkeeping, one change costs the same however many entities there are. What tells the views to look
 * again is in live.svelte.ts. */

import { HEALTHS, keyOf, readHealth, type Entity, type Health } from './wire';

export type HealthCounts = Record<Health, number>;

export const CONFIDENCE_BINS = 10;

/** Tombstones kept, so that an open page of something that went away can say so. */
const GONE_MAX = 500;

export function emptyCounts(): HealthCounts {
  return { critical: 0, degraded: 0, warning: 0, unknown: 0, healthy: 0 };
}

export function totalOf(counts: HealthCounts): number {
  return HEALTHS.reduce((sum, health) => sum + counts[health], 0);
}

/** The worst health that occurs; unknown counts as worse than healthy and better than a warning. */
export function worstOf(counts: HealthCounts): Health {
  return HEALTHS.find((health) => counts[health] > 0) ?? 'healthy';
}

export class Fleet {
  readonly entities = new Map<string, Entity>();
  readonly gone = new Map<string, Entity>();
  readonly counts = emptyCounts();
  readonly byType = new Map<string, HealthCounts>();
  readonly scopes = new Map<string, number>();
  /** Entities by confidence: bin i holds [i/10, (i+1)/10), the last one also 1. */
  readonly confidence = new Array<number>(CONFIDENCE_BINS).fill(0);
  revision = 0;
  /** Goes up when an entity comes or goes: what depends on who is there, and not on how they do, looks at this. */
  members = 0;

  get size(): number {
    return this.entities.size;
  }

  clear(): void {
    this.members += 1;
    this.entities.clear();
    this.gone.clear();
    Object.assign(this.counts, emptyCounts());
    this.byType.clear();
    this.scopes.clear();
    this.confidence.fill(0);
    this.revision = 0;
  }

  /** Take an entity as it is now. An older revision than the one known is left out, which makes it safe to
   * apply a list that was read while changes arrived. Answers whether anything changed. */
  put(entity: Entity): boolean {
    const key = keyOf(entity);
    const live = this.entities.get(key);
    const known = live ?? this.gone.get(key);
    if (known !== undefined && entity.revision < known.revision) return false;
    if (live !== undefined) this.#count(live, -1);
    else this.members += 1;
    this.gone.delete(key);
    this.entities.set(key, entity);
    this.#count(entity, 1);
    this.revision = Math.max(this.revision, entity.revision);
    return true;
  }

  /** Take an entity away; what it last was is kept for a while. */
  remove(key: string, revision: number, deletedAt: string): void {
    const live = this.entities.get(key);
    this.revision = Math.max(this.revision, revision);
    if (live === undefined || revision < live.revision) return;
    this.#count(live, -1);
    this.members += 1;
    this.entities.delete(key);
    this.#bury(key, { ...live, revision, deleted_at: deletedAt });
  }

  /** Take away what a complete list did not name: it went while nobody was listening. */
  retain(keys: ReadonlySet<string>, deletedAt: string): void {
    for (const [key, entity] of this.entities) {
      if (!keys.has(key)) this.remove(key, entity.revision, deletedAt);
    }
  }

  #bury(key: string, entity: Entity): void {
    this.gone.delete(key);
    this.gone.set(key, entity);
    if (this.gone.size > GONE_MAX) {
      const oldest = this.gone.keys().next();
      if (!oldest.done) this.gone.delete(oldest.value);
    }
  }

  #count(entity: Entity, step: 1 | -1): void {
    const health = readHealth(entity.health_state);
    this.counts[health] += step;
    let counts = this.byType.get(entity.entity_type);
    if (counts === undefined) {
      counts = emptyCounts();
      this.byType.set(entity.entity_type, counts);
    }
    counts[health] += step;
    if (totalOf(counts) === 0) this.byType.delete(entity.entity_type);
    const inScope = (this.scopes.get(entity.scope) ?? 0) + step;
    if (inScope === 0) this.scopes.delete(entity.scope);
    else this.scopes.set(entity.scope, inScope);
    this.confidence[binOf(entity.confidence_score)]! += step;
  }
}

export function binOf(confidence: number): number {
  const bin = Math.floor(confidence * CONFIDENCE_BINS + 1e-9);
  return Math.min(CONFIDENCE_BINS - 1, Math.max(0, bin));
}
