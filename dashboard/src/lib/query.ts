/** Search, filter and sort over entities: pure, so that it can be tested, and quick enough for 100,000. */

import { HEALTHS, isRecord, type Entity, type Health } from './wire';

export interface Filter {
  /** An entity type, or "" for all. */
  type: string;
  health: Health | '';
  scope: string;
  /** Whole labels, "name=value"; all must match. */
  labels: string[];
  /** What stands in the search box. */
  text: string;
}

export const NO_FILTER: Filter = { type: '', health: '', scope: '', labels: [], text: '' };

export type Test = (entity: Entity) => boolean;

/** The search box's terms: words, name=value for labels and fields, and field>number or field<number.
 *
 * Words match anywhere in the id, scope, labels and short texts of an entity, whatever their case. A number
 * may end in % (90% is 0.9). What looks like a term but names no number matches as a word. */
export function parseSearch(text: string): Test[] {
  return text.split(/\s+/).filter(Boolean).map(parseTerm);
}

const COMPARISON = /^([a-z_][a-z0-9_.]*)(>=|<=|>|<|=)(.+)$/i;

function parseTerm(term: string): Test {
  const found = COMPARISON.exec(term);
  if (found) {
    const [, name = '', sign = '', wanted = ''] = found;
    const limit = readNumber(wanted);
    if (sign === '=') return (entity) => equals(entity, name, wanted, limit);
    if (!Number.isNaN(limit)) {
      return (entity) => {
        const value = fieldOf(entity, name);
        return typeof value === 'number' && compares(value, sign, limit);
      };
    }
  }
  const word = term.toLowerCase();
  return (entity) => haystackOf(entity).includes(word);
}

function compares(value: number, sign: string, limit: number): boolean {
  if (sign === '>') return value > limit;
  if (sign === '<') return value < limit;
  return sign === '>=' ? value >= limit : value <= limit;
}

function equals(entity: Entity, name: string, wanted: string, limit: number): boolean {
  if (entity.labels[name] === wanted) return true;
  const value = fieldOf(entity, name);
  if (value === null || value === undefined) return false;
  if (typeof value === 'number') return value === limit;
  if (typeof value === 'boolean') return wanted === (value ? 'yes' : 'no') || wanted === String(value);
  return String(value).toLowerCase() === wanted.toLowerCase();
}

function readNumber(text: string): number {
  const percent = text.endsWith('%');
  const digits = percent ? text.slice(0, -1) : text;
  if (!/^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(digits)) return NaN;
  return Number(digits) / (percent ? 100 : 1);
}

const SHORT: Record<string, string> = {
  health: 'health_state',
  confidence: 'confidence_score',
  type: 'entity_type',
  id: 'entity_id',
};

/** A field's value by name: own and common fields (also by their short names), then those in `extra`. */
export function fieldOf(entity: Entity, name: string): unknown {
  const own = entity[SHORT[name] ?? name];
  return own === undefined ? entity.extra?.[name] : own;
}

/** The text that words are looked for in; kept as long as the entity, which is replaced when it changes. */
const haystacks = new WeakMap<Entity, string>();
const HAYSTACK_VALUE_MAX_CHARS = 200;

function haystackOf(entity: Entity): string {
  const known = haystacks.get(entity);
  if (known !== undefined) return known;
  const parts = [entity.entity_id, entity.scope, entity.entity_type, entity.health_state];
  for (const [name, value] of Object.entries(entity.labels)) parts.push(`${name}=${value}`);
  for (const value of Object.values(entity)) {
    if (typeof value === 'string' && value.length <= HAYSTACK_VALUE_MAX_CHARS) parts.push(value);
  }
  const text = parts.join('\n').toLowerCase();
  haystacks.set(entity, text);
  return text;
}

/** One test for a whole filter. */
export function compileFilter(filter: Filter): Test {
  const tests = parseSearch(filter.text);
  if (filter.type) tests.unshift((entity) => entity.entity_type === filter.type);
  if (filter.health) tests.unshift((entity) => entity.health_state === filter.health);
  if (filter.scope) tests.unshift((entity) => entity.scope === filter.scope);
  for (const label of filter.labels) {
    const cut = label.indexOf('=');
    const name = cut === -1 ? label : label.slice(0, cut);
    const value = cut === -1 ? undefined : label.slice(cut + 1);
    tests.push((entity) =>
      value === undefined ? Object.hasOwn(entity.labels, name) : entity.labels[name] === value,
    );
  }
  return (entity) => tests.every((test) => test(entity));
}

export interface Sort {
  field: string;
  descending: boolean;
}

/** Worst first, then by name: what a table shows until someone asks for another order. */
export const WORST_FIRST: Sort = { field: 'health_state', descending: false };

const HEALTH_RANK = new Map<unknown, number>(HEALTHS.map((health, rank) => [health, rank]));
const FRESHNESS_RANK = new Map<unknown, number>([
  ['expired', 0],
  ['stale', 1],
  ['fresh', 2],
]);

/** A text to sort a name by, so that n9 comes before n10: runs of digits padded to one length. Names repeat
 * with every look at the fleet, so what was worked out is kept. */
const nameKeys = new Map<string, string>();
const NAME_KEYS_MAX = 200_000;
const DIGITS = 12;

function nameKey(name: string): string {
  let key = nameKeys.get(name);
  if (key === undefined) {
    key = name.toLowerCase().replace(/\d+/g, (run) => run.padStart(DIGITS, '0'));
    if (nameKeys.size >= NAME_KEYS_MAX) nameKeys.clear();
    nameKeys.set(name, key);
  }
  return key;
}

/** What a field sorts by: health and freshness by rank, times as numbers, lists by length. */
function sortValue(entity: Entity, field: string): number | string | undefined {
  const value = fieldOf(entity, field);
  if (field === 'health_state') return HEALTH_RANK.get(value) ?? HEALTHS.length;
  if (field === 'freshness') return FRESHNESS_RANK.get(value) ?? 3;
  if (typeof value === 'number' || typeof value === 'string') return value;
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (Array.isArray(value)) return value.length;
  return isRecord(value) ? Object.keys(value).length : undefined;
}

/** A new array in order. Entities without a value come last both ways; ties go by id (n9 before n10), then
 * scope and type, so that the order is always the same. */
export function sortEntities(entities: Entity[], sort: Sort): Entity[] {
  const keyed = entities.map((entity) => ({ entity, value: sortValue(entity, sort.field) }));
  const direction = sort.descending ? -1 : 1;
  keyed.sort((a, b) => {
    if (a.value !== b.value) {
      if (a.value === undefined) return 1;
      if (b.value === undefined) return -1;
      const order = compareValues(a.value, b.value);
      if (order !== 0) return order * direction;
    }
    return compareIdentity(a.entity, b.entity);
  });
  return keyed.map(({ entity }) => entity);
}

function compareValues(a: number | string, b: number | string): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return compareText(nameKey(String(a)), nameKey(String(b)));
}

/** By scope, then by name: where an entity has its place on a map. */
export function comparePlace(a: Entity, b: Entity): number {
  return compareText(a.scope, b.scope) || compareIdentity(a, b);
}

function compareIdentity(a: Entity, b: Entity): number {
  return (
    compareText(nameKey(a.entity_id), nameKey(b.entity_id)) ||
    compareText(a.entity_id, b.entity_id) ||
    compareText(a.scope, b.scope) ||
    compareText(a.entity_type, b.entity_type)
  );
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
