/** The command line that shows the same as a page. */

import type { Entity } from './wire';

/** A word as a POSIX shell reads it back: plain if it can be, else in single quotes. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:@%+,=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

export function describeCommand(entity: Pick<Entity, 'entity_type' | 'scope' | 'entity_id'>): string {
  const target = shellWord(`${entity.entity_type}/${entity.entity_id}`);
  const scope = entity.scope ? ` --scope ${shellWord(entity.scope)}` : '';
  return `steersman describe ${target}${scope}`;
}
