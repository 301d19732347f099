/** What the events of the watch stream mean (docs/reference/events.md). */

import type { ServerEvent } from './sse';
import { isRecord, readEntity, type Entity } from './wire';

export type WatchEvent =
  /** The stream has begun: what follows are all changes after `revision`. */
  | { kind: 'hello'; revision: number }
  | { kind: 'entity'; entity: Entity }
  | { kind: 'gone'; type: string; scope: string; id: string; revision: number; deletedAt: string }
  /** A managed thing changed: read it again. */
  | { kind: 'resource'; subject: string }
  /** Changes were left out: the list must be read again. */
  | { kind: 'resync'; revision: number; reason: string }
  /** The server ends the stream. */
  | { kind: 'bye'; reason: string };

/** An event as it was meant; undefined for one that is not known or can't be read. */
export function readEvent(event: ServerEvent): WatchEvent | undefined {
  let data: unknown;
  try {
    data = JSON.parse(event.data);
  } catch {
    return undefined;
  }
  if (!isRecord(data)) return undefined;
  const revision = typeof data.revision === 'number' ? data.revision : Number(event.id) || 0;
  const reason = typeof data.reason === 'string' ? data.reason : '';
  switch (event.name) {
    case 'hello':
      return { kind: 'hello', revision };
    case 'entity': {
      const entity = readEntity(data);
      return entity && { kind: 'entity', entity };
    }
    case 'gone': {
      const { entity_type: type, entity_id: id, scope, deleted_at: at } = data;
      if (typeof type !== 'string' || typeof id !== 'string') return undefined;
      const deletedAt = typeof at === 'string' ? at : '';
      return { kind: 'gone', type, id, scope: typeof scope === 'string' ? scope : '', revision, deletedAt };
    }
    case 'resource':
      return { kind: 'resource', subject: typeof data.subject === 'string' ? data.subject : '' };
    case 'resync':
      return { kind: 'resync', revision, reason };
    case 'bye':
      return { kind: 'bye', reason };
    default:
      return undefined;
  }
}
