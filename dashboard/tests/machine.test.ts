import { expect, test } from 'vitest';
import { drawMachine, labelOf, waysOf } from '../src/lib/machine';
import type { Lifecycle } from '../src/lib/resource';

const TABLE: Lifecycle = {
  name: 'site',
  version: '1',
  initial: 'in_service',
  states: [
    { name: 'in_service', schedulable: true },
    { name: 'draining', class: 'active', deadline_s: 60, on_timeout: 'failed' },
    { name: 'maintenance' },
    { name: 'failed' },
    { name: 'retired', class: 'terminal' },
  ],
  transitions: [
    { event: 'drain', from: ['in_service'], to: 'draining' },
    { event: 'drain_now', from: ['in_service'], to: 'draining' },
    { event: 'drained', from: ['draining'], to: 'maintenance' },
    { event: 'return', from: ['maintenance'], to: 'in_service' },
    { event: 'fail', from: ['*'], to: 'failed' },
    { event: 'retire', from: ['failed'], to: 'retired' },
  ],
};

test('a pair of states has one way, with all its events', () => {
  const ways = waysOf(TABLE);
  expect(ways.get(JSON.stringify(['in_service', 'draining']))?.events).toEqual(['drain', 'drain_now']);
  expect(ways.get(JSON.stringify(['draining', 'failed']))?.events).toEqual(['fail', 'timeout']);
});

test('a star is every state that is not terminal, and not the target itself', () => {
  const fails = [...waysOf(TABLE).values()].filter((way) => way.to === 'failed').map((way) => way.from);
  expect(fails.sort()).toEqual(['draining', 'in_service', 'maintenance']);
});

test('each state is drawn once, inside the picture, and no two lie on each other', () => {
  const drawing = drawMachine(TABLE);
  expect(drawing.boxes.map((box) => box.name)).toEqual(TABLE.states.map((state) => state.name));
  for (const box of drawing.boxes) {
    expect(box.x).toBeGreaterThanOrEqual(0);
    expect(box.x + box.width).toBeLessThanOrEqual(drawing.width);
    expect(box.y + box.height).toBeLessThanOrEqual(drawing.height);
    for (const other of drawing.boxes) {
      const apart =
        other === box ||
        other.x >= box.x + box.width ||
        box.x >= other.x + other.width ||
        other.y >= box.y + box.height ||
        box.y >= other.y + other.height;
      expect(apart).toBe(true);
    }
  }
  expect(drawing.arrows).toHaveLength(waysOf(TABLE).size);
  for (const arrow of drawing.arrows) expect(arrow.path).toMatch(/^M[-\d.]+ [-\d.]+C/);
});

test('the same table is drawn the same way', () => {
  expect(drawMachine(TABLE)).toEqual(drawMachine(structuredClone(TABLE)));
});

test('many events on one arrow are told by the first and a number', () => {
  expect(labelOf(['a'])).toBe('a');
  expect(labelOf(['a', 'b'])).toBe('a, b');
  expect(labelOf(['a', 'b', 'c'])).toBe('a +2');
});
