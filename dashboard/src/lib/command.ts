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

/** `steersman set NODE STATUS`; `-` takes the intent back. */
export function setCommand(node: string, status: string, reason: string): string {
  // A slash would read as KIND/NAME, a dash as an option.
  const target = /^-|\//.test(node) ? `node/${node}` : node;
  return `steersman set ${shellWord(target)} ${shellWord(status)}${withReason(reason)}`;
}

/** `steersman approve` and `steersman reject`. */
export function decideCommand(verb: 'approve' | 'reject', id: string, reason: string): string {
  return `steersman ${verb} ${shellWord(id)}${withReason(reason)}`;
}

/** `steersman snooze`, for an hour, or off. */
export function snoozeCommand(id: string, off: boolean, reason: string): string {
  return `steersman snooze ${shellWord(id)} ${off ? '--off' : '--ttl 1h'}${withReason(reason)}`;
}

export function freezeCommand(freeze: boolean, reason: string): string {
  return `steersman freeze${freeze ? '' : ' --off'}${withReason(reason)}`;
}

export function modeCommand(policy: string, mode: string, reason: string): string {
  return `steersman policy set ${shellWord(policy)} ${shellWord(mode)}${withReason(reason)}`;
}

export function explainCommand(kind: string, id: string): string {
  return `steersman explain ${shellWord(`${kind}/${id}`)}`;
}

function withReason(reason: string): string {
  if (reason === '') return '';
  return reason.startsWith('-') ? ` --reason=${shellWord(reason)}` : ` --reason ${shellWord(reason)}`;
}
