/** One entity in depth: what `explain` and `history` say of it, read again when it changes. */

import { ApiError, entityPath, getJson } from './api';
import { live } from './live.svelte';
import { keyFrom, readEntity, type Entity, type EntityHistory, type Explanation } from './wire';

/** Pause between two readings of an entity that keeps changing. */
const READ_PAUSE_MS = 2_000;

export class EntityDetail {
  explanation = $state.raw<Explanation>();
  history = $state.raw<EntityHistory>();
  /** The entity when the fleet does not hold it (yet): gone, or beyond what the page holds. */
  alone = $state.raw<Entity>();
  trouble = $state('');
  missing = $state(false);
  readonly #type: string;
  readonly #scope: string;
  readonly #id: string;
  readonly #key: string;
  readonly #abort = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #nextAt = 0;

  constructor(type: string, scope: string, id: string) {
    this.#type = type;
    this.#scope = scope;
    this.#id = id;
    this.#key = keyFrom(type, scope, id);
  }

  /** The entity as it is now, from the live fleet. */
  get entity(): Entity | undefined {
    void live.version;
    return live.fleet.entities.get(this.#key) ?? live.fleet.gone.get(this.#key) ?? this.alone;
  }

  /** Read soon: at once the first time, then at intervals however fast the entity changes. */
  readSoon(): void {
    this.#timer ??= setTimeout(
      () => {
        this.#timer = undefined;
        this.#nextAt = performance.now() + READ_PAUSE_MS;
        void this.#read();
      },
      Math.max(0, this.#nextAt - performance.now()),
    );
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  async #read(): Promise<void> {
    const path = (part = ''): string => entityPath(this.#type, this.#id, this.#scope, part);
    const { signal } = this.#abort;
    try {
      const [entity, explanation, history] = await Promise.all([
        getJson<unknown>(path(), signal),
        getJson<Explanation>(path('/explain'), signal),
        getJson<EntityHistory>(path('/history'), signal),
      ]);
      this.alone = readEntity(entity.body);
      this.explanation = explanation.body;
      this.history = history.body;
      this.trouble = '';
      this.missing = false;
    } catch (error) {
      if (signal.aborted) return;
      this.missing = error instanceof ApiError && error.status === 404;
      this.trouble = error instanceof Error ? error.message : String(error);
    }
  }
}
