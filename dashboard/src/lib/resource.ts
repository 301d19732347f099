/** The shapes of managed things, as far as the dashboard reads them: resources, their histories, lifecycles,
 * recommendations and policies. See docs/reference/http.md and docs/reference/kinds.md. */

export interface Condition {
  type: string;
  status: 'true' | 'false' | 'unknown';
  source: string;
  reason: string;
  message: string;
  observed_at: string;
}

export interface Hold {
  name: string;
  owner: string;
  reason: string;
  placed_at: string;
  expires_at?: string | null;
}

export interface Operation {
  id: string;
  kind: string;
  phase: string;
  lifecycle_phase?: string | null;
  step?: string | null;
  detail?: string;
  waiting_for?: string | null;
}

/** One managed thing. */
export interface Resource {
  id: string;
  resource_type: string;
  status: string;
  desired_status?: string | null;
  desired_by?: string;
  desired_reason?: string;
  status_since: string;
  lifecycle_table: string;
  scope?: string;
  labels: Record<string, string>;
  conditions: Condition[];
  holds: Hold[];
  operation?: Operation | null;
  version: number;
  work?: Work;
}

/** May it take work, and what stands against it. */
export interface Work {
  allowed: 'true' | 'false' | 'unknown';
  reasons: string[];
}

export interface Fact {
  entity: string;
  field: string;
  value: unknown;
  unit?: string;
  source: string;
  age_s: number;
}

/** One row of a resource's history. */
export interface HistoryEntry {
  seq: number;
  at: string;
  action: string;
  actor: string;
  /** Who did it for the actor, where that is another. */
  carried_out_by?: string;
  event?: string | null;
  from_state?: string | null;
  to_state?: string | null;
  reason: string;
  cause: string;
  operation: string;
  facts: Fact[];
  evidence: { kind: string; detail?: string; ref?: string }[];
  data: Record<string, unknown>;
}

export interface LifecycleState {
  name: string;
  class?: 'stable' | 'active' | 'terminal';
  schedulable?: boolean;
  is_a?: string;
  deadline_s?: number | null;
  on_timeout?: string | null;
  phase?: string | null;
  description?: string;
}

export interface LifecycleTransition {
  event: string;
  from: string[];
  to: string;
  by?: string[];
  guard?: string[];
  description?: string;
}

/** A lifecycle table. */
export interface Lifecycle {
  name: string;
  version: string;
  initial: string;
  states: LifecycleState[];
  transitions: LifecycleTransition[];
}

/** A way out of where a resource is. */
export interface Option {
  event: string;
  to: string;
  enabled?: boolean;
  why_not?: string;
}

export interface Guardrail {
  guardrail: string;
  verdict: 'passed' | 'stopped' | 'unknown';
  detail: string;
}

/** What ought to be done, and why. */
export interface Recommendation {
  id: string;
  policy: string;
  policy_version: number;
  entity: string;
  action: { name: string; parameters: Record<string, unknown> };
  mode: string;
  reason: string;
  facts_read: Fact[];
  facts_missing: { entity: string; field: string; why: string; detail?: string }[];
  confidence: number;
  risk: string;
  priority: number;
  guardrails: Guardrail[];
  created_at: string;
  expires_at: string;
}

/** A recommendation as a resource: what was proposed, and where it stands. */
export interface RecommendationResource extends Resource {
  recommendation: Recommendation;
  approved_by: string[];
  guardrails: Guardrail[];
  snoozed_until?: string | null;
}

/** The freeze switch: who threw it last, and why. */
export interface Freeze {
  frozen: boolean;
  since: string;
  by: string;
  reason: string;
}

export interface PolicyResource extends Resource {
  policy_version: number;
  place: string;
}

/** Statuses of a recommendation that a person can still decide. */
export const OPEN_STATUSES: readonly string[] = ['proposed', 'approved', 'applying'];

/** The id of what a recommendation is about: `type/scope/id`, or `type/id` where there is no scope. */
export function subjectOf(one: RecommendationResource): { type: string; scope: string; id: string } {
  const { entity } = one.recommendation;
  const scope = one.labels.scope ?? '';
  const type = one.labels.entity_type ?? entity.slice(0, Math.max(0, entity.indexOf('/')));
  const prefix = scope ? `${type}/${scope}/` : `${type}/`;
  return { type, scope, id: entity.startsWith(prefix) ? entity.slice(prefix.length) : entity };
}

export function resourcePath(kind: string, id: string, part = ''): string {
  return `api/v1/resources/${encodeURIComponent(kind)}/${encodeURIComponent(id)}${part}`;
}

/** What a history row says, in one line. */
export function entryTitle(entry: HistoryEntry): string {
  const to = typeof entry.data.desired_status === 'string' ? entry.data.desired_status : undefined;
  switch (entry.action) {
    case 'created':
      return `came into being in ${entry.to_state ?? '?'}`;
    case 'transitioned':
    case 'migrated':
      return `${entry.from_state ?? '?'} → ${entry.to_state ?? '?'}`;
    case 'intent_set':
      return to ? `meant to be ${to}` : 'intent changed';
    case 'conditions_changed': {
      const told = Array.isArray(entry.data.conditions) ? (entry.data.conditions as Condition[]) : [];
      return `observed: ${told.map(({ type, status }) => `${type} ${status}`).join(', ') || 'conditions'}`;
    }
    case 'progress_made': {
      const { phase, step, step_status: status } = entry.data;
      const parts = [step ?? 'phase', status ?? entry.data.status].filter((part) => typeof part === 'string');
      return `${typeof phase === 'string' ? `${phase}: ` : ''}${parts.join(' ')}`;
    }
    default:
      return entry.action.replaceAll('_', ' ');
  }
}
