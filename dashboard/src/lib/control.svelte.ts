/** What is managed and decided: resources, recommendations, policies and the freeze switch. It is read again when the
 * stream tells of a change, and now and then besides. */

import { ApiError, getJson, sendJson } from './api';
import {
  OPEN_STATUSES,
  resourcePath,
  type Freeze,
  type Lifecycle,
  type PolicyResource,
  type RecommendationResource,
  type Resource,
} from './resource';

/** Pause between two readings, however many changes the stream tells of. */
const READ_PAUSE_MS = 250;
/** A reading that nothing asked for: what a lost event would have told. */
const IDLE_READ_MS = 15_000;
/** Resources of one kind that the page holds; the server pages beyond it. */
const HELD_MAX = 2_000;

interface Page<T> {
  items: T[];
  cursor?: string | null;
}

class Control {
  nodes = $state.raw<Resource[]>([]);
  recommendations = $state.raw<RecommendationResource[]>([]);
  policies = $state.raw<PolicyResource[]>([]);
  freeze = $state.raw<Freeze>();
  loaded = $state(false);
  trouble = $state('');
  /** Goes up with each change of a resource that the stream told of; pages of one resource read again. */
  version = $state(0);
  readonly #tables = new Map<string, Promise<Lifecycle>>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #readAt = 0;
  #reads = 0;

  get open(): RecommendationResource[] {
    return this.recommendations.filter((one) => OPEN_STATUSES.includes(one.status));
  }

  get waiting(): number {
    return this.recommendations.filter((one) => one.status === 'proposed').length;
  }

  get frozen(): boolean {
    return this.freeze?.frozen === true;
  }

  start(): void {
    setInterval(() => {
      if (!document.hidden) this.readSoon();
    }, IDLE_READ_MS);
  }

  /** The stream told of a change of some resource. */
  changed(): void {
    this.version += 1;
    this.readSoon();
  }

  readSoon(): void {
    this.#timer ??= setTimeout(
      () => {
        this.#timer = undefined;
        this.#readAt = performance.now();
        void this.#read();
      },
      Math.max(0, this.#readAt + READ_PAUSE_MS - performance.now()),
    );
  }

  /** A lifecycle table by name; kept for as long as the page lives, since a version never changes. */
  table(name: string): Promise<Lifecycle> {
    let known = this.#tables.get(name);
    if (known === undefined) {
      known = getJson<Lifecycle>(`api/v1/lifecycles/${encodeURIComponent(name)}`).then(({ body }) => body);
      known.catch(() => this.#tables.delete(name));
      this.#tables.set(name, known);
    }
    return known;
  }

  /** `-` takes the intent back, as on the command line. */
  async setDesired(resource: Resource, status: string, reason: string): Promise<void> {
    await this.#send('PUT', resourcePath(resource.resource_type, resource.id, '/desired-status'), {
      status: status === '-' ? null : status,
      reason,
    });
  }

  async decide(id: string, verb: 'approve' | 'reject', reason: string): Promise<void> {
    await this.#send('POST', `api/v1/recommendations/${encodeURIComponent(id)}/${verb}`, { reason });
  }

  /** Ask nobody about it before `until`; null asks again at once. */
  async snooze(id: string, until: string | null, reason: string): Promise<void> {
    await this.#send('POST', `api/v1/recommendations/${encodeURIComponent(id)}/snooze`, { until, reason });
  }

  async setFrozen(frozen: boolean, reason: string): Promise<void> {
    await this.#send('PUT', 'api/v1/freeze', { frozen, reason });
  }

  async setMode(policy: string, mode: string, reason: string): Promise<void> {
    await this.#send('PUT', `api/v1/policies/${encodeURIComponent(policy)}/mode`, { mode, reason });
  }

  async #send(method: string, path: string, body: unknown): Promise<void> {
    await sendJson(method, path, body);
    this.changed();
  }

  async #read(): Promise<void> {
    const turn = ++this.#reads;
    try {
      const [nodes, recommendations, policies, freeze] = await Promise.all([
        this.#list<Resource>('node'),
        this.#list<RecommendationResource>('recommendation'),
        this.#list<PolicyResource>('policy'),
        getJson<Freeze>('api/v1/freeze').then(({ body }) => body),
      ]);
      if (turn !== this.#reads) return; // a later reading is on its way, and newer
      this.nodes = nodes;
      this.recommendations = recommendations.sort((a, b) => b.status_since.localeCompare(a.status_since));
      this.policies = policies;
      this.freeze = freeze;
      this.trouble = '';
      this.loaded = true;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return;
      this.trouble = error instanceof Error ? error.message : String(error);
    }
  }

  async #list<T>(kind: string): Promise<T[]> {
    const items: T[] = [];
    let cursor: string | null = '';
    while (cursor !== null && items.length < HELD_MAX) {
      const more: string = cursor ? `&cursor=${encodeURIComponent(cursor)}` : '';
      const { body }: { body: Page<T> } = await getJson<Page<T>>(`api/v1/resources/${kind}?limit=500${more}`);
      items.push(...body.items);
      cursor = body.cursor ?? null;
    }
    return items;
  }
}

export const control = new Control();
