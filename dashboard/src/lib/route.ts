/** Addresses inside the page. They live in the hash, so the server needs to know one path only, the page works
 * under any prefix, and no entity's name reaches a proxy's log. A filter is part of its address: it can be
 * bookmarked and sent to a colleague. */

import { NO_FILTER, WORST_FIRST, type Filter, type Sort } from './query';
import { HEALTHS, type Entity, type Health } from './wire';

export type Route =
  | { view: 'overview' }
  | { view: 'entities'; filter: Filter; sort: Sort }
  | { view: 'entity'; type: string; scope: string; id: string; tab: EntityTab }
  | { view: 'sources' }
  | { view: 'nodes' }
  | { view: 'node'; id: string }
  | { view: 'recommendations' }
  | { view: 'unknown'; address: string };

export const ENTITY_TABS = ['fields', 'history', 'raw'] as const;
export type EntityTab = (typeof ENTITY_TABS)[number];

export function parseRoute(hash: string): Route {
  const address = hash.replace(/^#/, '');
  const [path = '', search = ''] = splitOnce(address, '?');
  const parts = path.split('/').filter(Boolean).map(decode);
  const query = new URLSearchParams(search);
  const [head, type = '', id] = parts;
  if (head === undefined) return { view: 'overview' };
  if (head === 'sources' && parts.length === 1) return { view: 'sources' };
  if (head === 'nodes' && parts.length === 1) return { view: 'nodes' };
  if (head === 'nodes' && parts.length === 2) return { view: 'node', id: type };
  if (head === 'recommendations' && parts.length === 1) return { view: 'recommendations' };
  if (head === 'entities' && parts.length <= 2) return readTable(type, query);
  if (head === 'entity' && id !== undefined && parts.length === 3) {
    const tab = ENTITY_TABS.find((name) => name === query.get('tab')) ?? 'fields';
    return { view: 'entity', type, id, scope: query.get('scope') ?? '', tab };
  }
  return { view: 'unknown', address };
}

function readTable(type: string, query: URLSearchParams): Route {
  const health = HEALTHS.find((name) => name === query.get('health')) ?? '';
  const [field = '', way] = (query.get('sort') ?? '').split(':');
  return {
    view: 'entities',
    filter: {
      type,
      health: health as Health | '',
      scope: query.get('scope') ?? '',
      labels: query.getAll('label'),
      text: query.get('q') ?? '',
    },
    sort: field ? { field, descending: way === 'desc' } : WORST_FIRST,
  };
}

export function entitiesHref(filter: Partial<Filter> = {}, sort: Sort = WORST_FIRST): string {
  const { type, health, scope, labels, text } = { ...NO_FILTER, ...filter };
  const query = new URLSearchParams();
  if (text) query.set('q', text);
  if (health) query.set('health', health);
  if (scope) query.set('scope', scope);
  for (const label of labels) query.append('label', label);
  if (sort.field !== WORST_FIRST.field || sort.descending !== WORST_FIRST.descending) {
    query.set('sort', `${sort.field}:${sort.descending ? 'desc' : 'asc'}`);
  }
  return withQuery(type ? `#/entities/${encodeURIComponent(type)}` : '#/entities', query);
}

export function entityHref(
  entity: Pick<Entity, 'entity_type' | 'scope' | 'entity_id'>,
  tab: EntityTab = 'fields',
): string {
  const query = new URLSearchParams();
  if (entity.scope) query.set('scope', entity.scope);
  if (tab !== 'fields') query.set('tab', tab);
  const path = `#/entity/${encodeURIComponent(entity.entity_type)}/${encodeURIComponent(entity.entity_id)}`;
  return withQuery(path, query);
}

export function nodeHref(id: string): string {
  return `#/nodes/${encodeURIComponent(id)}`;
}

function withQuery(path: string, query: URLSearchParams): string {
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

function splitOnce(text: string, mark: string): [string, string] {
  const cut = text.indexOf(mark);
  return cut === -1 ? [text, ''] : [text.slice(0, cut), text.slice(cut + 1)];
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
