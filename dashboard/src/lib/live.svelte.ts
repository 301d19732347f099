/** What the views read: the fleet, the line to the server, and when to look again.
 *
 * Changes are taken in as they arrive and shown a few times a second, so that a fleet of thousands that all
 * change does not make the page busy with itself. */

import { ApiError, apiUrl, getJson, getToken, setToken } from './api';
import { control } from './control.svelte';
import { readEvent } from './events';
import { Fleet } from './fleet';
import { isAnother } from './release';
import { Link, type LinkState } from './link';
import type { ServerEvent } from './sse';
import { keyFrom, keyOf, readEntity, type SourceStatus } from './wire';

/** Entities asked for in one page; the server may give fewer. */
const PAGE_ITEMS = 2000;
/** Entities that the page holds. A fleet beyond it is shown in part, and the page says so. */
export const HELD_MAX = 150_000;
const SOURCES_INTERVAL_MS = 5_000;
const RELOAD_PAUSE_MS = 2_000;
/** Pauses between two looks of the views at the fleet. */
const SMALL_PAUSE_MS = 80;
const LARGE_PAUSE_MS = 500;
const LARGE_FLEET = 5_000;

interface EntityPage {
  items: unknown[];
  cursor?: string | null;
  /** The bus's when the page was made. */
  revision: number;
}

class Live {
  readonly fleet = new Fleet();
  /** Goes up when the fleet has changed; views derive from it. */
  version = $state(0);
  link = $state.raw<LinkState>({ kind: 'connecting' });
  /** The page's clock in ms, set to the server's; it ticks once a second. */
  now = $state(Date.now());
  /** When anything was last heard, on this machine's clock. */
  heardAt = $state(0);
  /** Whether the first complete list is in. */
  loaded = $state(false);
  /** Whether the fleet is larger than this page holds. */
  cut = $state(false);
  sources = $state.raw<SourceStatus[]>([]);
  /** Whether the server was upgraded and has another build of this page. */
  outdated = $state(false);
  /** Why the list or the sources could not be read; "" if they could. */
  trouble = $state('');
  #skewMs = 0;
  #startedAt = '';
  #showTimer: ReturnType<typeof setTimeout> | undefined;
  #shownAt = 0;
  #heard = 0;
  #load: AbortController | undefined;
  #reloadTimer: ReturnType<typeof setTimeout> | undefined;
  readonly #line = new Link({
    url: () => apiUrl('api/v1/watch'),
    token: getToken,
    onEvent: (event) => this.#take(event),
    onState: (state) => this.#show(state),
    onHeard: () => (this.#heard = Date.now()),
  });

  start(): void {
    control.start();
    setInterval(() => this.#tick(), 1000);
    setInterval(() => void this.#readSources(), SOURCES_INTERVAL_MS);
    addEventListener('online', () => this.#line.retryNow());
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.#line.retryNow();
    });
    this.connect();
  }

  /** Open the line afresh: at the start, and after a token was given. */
  connect(): void {
    this.loaded = false;
    this.#line.start();
    void this.#readSources();
  }

  unlock(token: string): void {
    setToken(token);
    this.connect();
  }

  retryNow(): void {
    this.#line.retryNow();
  }

  #show(state: LinkState): void {
    this.link = state;
    if (state.kind === 'locked') {
      this.#load?.abort();
      clearTimeout(this.#reloadTimer);
    }
  }

  #take(event: ServerEvent): void {
    const said = readEvent(event);
    switch (said?.kind) {
      case 'entity':
        this.fleet.put(said.entity);
        this.#changed();
        break;
      case 'gone':
        this.fleet.remove(keyFrom(said.type, said.scope, said.id), said.revision, said.deletedAt);
        this.#changed();
        break;
      case 'hello':
        // The list is read once the stream runs, so that no change falls between the two. A line that was
        // lost goes on where it was and needs no list.
        if (!this.loaded) this.#reload();
        void this.#checkLife();
        control.changed();
        break;
      case 'resource':
        control.changed();
        break;
      case 'resync':
        this.#reload();
        control.changed();
        break;
      default:
    }
  }

  /** Let the views look again: soon, but no more often than a fleet of this size can be looked over. */
  #changed(): void {
    if (this.#showTimer !== undefined) return;
    const pause = this.fleet.size > LARGE_FLEET ? LARGE_PAUSE_MS : SMALL_PAUSE_MS;
    const wait = Math.max(0, this.#shownAt + pause - performance.now());
    this.#showTimer = setTimeout(() => {
      this.#showTimer = undefined;
      this.#shownAt = performance.now();
      this.version += 1;
    }, wait);
  }

  #tick(): void {
    this.now = Date.now() + this.#skewMs;
    this.heardAt = this.#heard;
  }

  /** Read the whole list while the stream already runs: whichever is newer wins, so nothing is missed. */
  #reload(): void {
    clearTimeout(this.#reloadTimer);
    this.#load?.abort();
    const load = new AbortController();
    this.#load = load;
    void this.#readAll(load.signal).catch((error: unknown) => {
      if (load.signal.aborted || (error instanceof ApiError && error.status === 401)) return;
      this.trouble = error instanceof Error ? error.message : String(error);
      this.#reloadTimer = setTimeout(() => this.#reload(), RELOAD_PAUSE_MS);
    });
  }

  async #readAll(signal: AbortSignal): Promise<void> {
    const known = new Map([...this.fleet.entities].map(([key, entity]) => [key, entity.revision]));
    const listed = new Set<string>();
    let cursor: string | null = '';
    this.cut = false;
    while (cursor !== null) {
      const query: string = cursor ? `&cursor=${encodeURIComponent(cursor)}` : '';
      const { body, headers } = await getJson<EntityPage>(
        `api/v1/entities?limit=${PAGE_ITEMS}${query}`,
        signal,
      );
      this.#setClock(headers);
      // Revisions only grow in one life of a store: this is another one, and nothing known is of it.
      if (cursor === '' && body.revision < this.fleet.revision) {
        this.fleet.clear();
        known.clear();
      }
      for (const raw of body.items) {
        const entity = readEntity(raw);
        if (entity === undefined) continue;
        listed.add(keyOf(entity));
        this.fleet.put(entity);
      }
      this.#changed();
      cursor = body.cursor ?? null;
      if (cursor !== null && listed.size >= HELD_MAX) {
        this.cut = true;
        cursor = null;
      }
    }
    // Only what was known before the list and did not change since can have gone unnoticed.
    for (const [key, entity] of this.fleet.entities) {
      if (known.get(key) !== entity.revision) listed.add(key);
    }
    if (!this.cut) this.fleet.retain(listed, new Date(this.now).toISOString());
    this.trouble = '';
    this.loaded = true;
    this.#changed();
  }

  /** Which life of the server speaks. After a restart the list is read again, whatever the stream resumes: a
   * store in memory begins at nothing, and what was forgotten meanwhile is told by nobody. */
  async #checkLife(): Promise<void> {
    try {
      const { body } = await getJson<{ started_at: string }>('api/v1/status');
      const restarted = this.#startedAt !== '' && this.#startedAt !== body.started_at;
      this.#startedAt = body.started_at;
      if (!restarted) return;
      this.#reload();
      const page = await fetch(apiUrl(''), { cache: 'no-store' });
      if (page.ok) this.outdated = isAnother(await page.text(), import.meta.url);
    } catch {
      // Lost again; the next line asks again.
    }
  }

  /** Ages are told by the server's clock; a difference below a few seconds is the header's own coarseness. */
  #setClock(headers: Headers): void {
    const date = Date.parse(headers.get('Date') ?? '');
    if (Number.isNaN(date)) return;
    const skew = date + 500 - Date.now();
    this.#skewMs = Math.abs(skew) > 3000 ? skew : 0;
    this.#tick();
  }

  async #readSources(): Promise<void> {
    if (!['live', 'connecting'].includes(this.link.kind) || document.hidden) return;
    try {
      const { body } = await getJson<{ items: SourceStatus[] }>('api/v1/sources');
      this.sources = body.items;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        this.link = { kind: 'locked', refused: getToken() !== undefined };
      }
    }
  }
}

export const live = new Live();
