import { expect, test } from 'vitest';
import {
  decideCommand,
  explainCommand,
  freezeCommand,
  modeCommand,
  setCommand,
  snoozeCommand,
} from '../src/lib/command';
import { readEvent } from '../src/lib/events';
import { formatAgo } from '../src/lib/format';
import { entryTitle, subjectOf, type HistoryEntry, type RecommendationResource } from '../src/lib/resource';
import { nodeHref, parseRoute } from '../src/lib/route';

test('commands quote what a shell would take apart', () => {
  expect(setCommand('n 1', 'maintenance', "it's late")).toBe(
    `steersman set 'n 1' maintenance --reason 'it'\\''s late'`,
  );
  expect(setCommand('policy/x', '-', '-v')).toBe('steersman set node/policy/x - --reason=-v');
  expect(snoozeCommand('r', false, '')).toBe('steersman snooze r --ttl 1h');
  expect(snoozeCommand('r', true, 'now')).toBe('steersman snooze r --off --reason now');
  expect(decideCommand('approve', 'rec-1', '')).toBe('steersman approve rec-1');
  expect(freezeCommand(true, 'storm')).toBe('steersman freeze --reason storm');
  expect(freezeCommand(false, 'over')).toBe('steersman freeze --off --reason over');
  expect(modeCommand('p', 'observe_only', 'x')).toBe('steersman policy set p observe_only --reason x');
  expect(explainCommand('node', 'a/b')).toBe('steersman explain node/a/b');
});

test('addresses of the new views', () => {
  expect(parseRoute('#/nodes')).toEqual({ view: 'nodes' });
  expect(parseRoute(nodeHref('rack/1 n'))).toEqual({ view: 'node', id: 'rack/1 n' });
  expect(parseRoute('#/recommendations')).toEqual({ view: 'recommendations' });
});

test('a change of a managed thing is an event of its own', () => {
  expect(readEvent({ id: '7-9', name: 'resource', data: '{"subject":"Node/a"}' })).toEqual({
    kind: 'resource',
    subject: 'Node/a',
  });
});

test('history rows say what happened in a line', () => {
  const entry = (given: Partial<HistoryEntry>): HistoryEntry => ({
    seq: 1,
    at: '',
    action: '',
    actor: '',
    reason: '',
    cause: '',
    operation: '',
    facts: [],
    evidence: [],
    data: {},
    ...given,
  });
  expect(entryTitle(entry({ action: 'created', to_state: 'in_service' }))).toBe(
    'came into being in in_service',
  );
  expect(entryTitle(entry({ action: 'transitioned', from_state: 'a', to_state: 'b' }))).toBe('a → b');
  expect(entryTitle(entry({ action: 'intent_set', data: { desired_status: 'b' } }))).toBe('meant to be b');
  expect(
    entryTitle(
      entry({ action: 'progress_made', data: { phase: 'drain', step: 'flush', step_status: 'succeeded' } }),
    ),
  ).toBe('drain: flush succeeded');
  const conditions = [{ type: 'health', status: 'false' }];
  expect(entryTitle(entry({ action: 'conditions_changed', data: { conditions } }))).toBe(
    'observed: health false',
  );
  expect(entryTitle(entry({ action: 'hold_placed' }))).toBe('hold placed');
});

test('what a recommendation is about is found with and without a scope, slashes and all', () => {
  const one = (entity: string, labels: Record<string, string>): RecommendationResource =>
    ({ labels, recommendation: { entity } }) as unknown as RecommendationResource;
  expect(subjectOf(one('node/hpc/rack/n1', { entity_type: 'node', scope: 'hpc' }))).toEqual({
    type: 'node',
    scope: 'hpc',
    id: 'rack/n1',
  });
  expect(subjectOf(one('node/vm', { entity_type: 'node' }))).toEqual({ type: 'node', scope: '', id: 'vm' });
});

test('an age in a sentence', () => {
  expect(formatAgo(0.2)).toBe('now');
  expect(formatAgo(42)).toBe('42 s ago');
});
