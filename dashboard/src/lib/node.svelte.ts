/** One managed node in depth: the resource, its lifecycle, its ways out and its history. */

import { ApiError, getJson } from './api';
import { control } from './control.svelte';
import { resourcePath, type HistoryEntry, type Lifecycle, type Option, type Resource } from './resource';

const HISTORY_PAGE = 50;
/** Pause between two readings of a node that keeps changing. */
const READ_PAUSE_MS = 300;

interface HistoryPage {
  items: HistoryEntry[];
  cursor?: string | null;
}

export class NodeDetail {
  resource = $state.raw<Resource>();
  table = $state.raw<Lifecycle>();
  options = $state.raw<Option[]>([]);
  entries = $state.raw<HistoryEntry[]>([]);
  limit = $state(HISTORY_PAGE);
  more = $state(false);
  trouble = $state('');
  missing = $state(false);
  readonly #id: string;
  readonly #abort = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #nextAt = 0;
  #reads = 0;

  constructor(id: string) {
    this.#id = id;
  }

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

  older(): void {
    this.limit += HISTORY_PAGE;
    this.readSoon();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  async #read(): Promise<void> {
    const { signal } = this.#abort;
    const turn = ++this.#reads;
    const path = (part = ''): string => resourcePath('node', this.#id, part);
    try {
      const [resource, options, history] = await Promise.all([
        getJson<Resource>(path(), signal),
        getJson<{ items: Option[] }>(path('/allowed'), signal),
        getJson<HistoryPage>(path(`/history?order=newest&limit=${this.limit}`), signal),
      ]);
      if (turn !== this.#reads) return; // a later reading is on its way, and newer
      this.resource = resource.body;
      this.options = options.body.items;
      this.entries = history.body.items;
      this.more = Boolean(history.body.cursor);
      this.table = await control.table(resource.body.lifecycle_table);
      this.trouble = '';
      this.missing = false;
    } catch (error) {
      if (signal.aborted) return;
      this.missing = error instanceof ApiError && error.status === 404;
      this.trouble = error instanceof Error ? error.message : String(error);
    }
  }
}
