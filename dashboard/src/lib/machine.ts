/** Where the states and arrows of a lifecycle go on the page. The layout is dagre's; what is drawn is the table
 * itself, so a site's own lifecycle looks like what it is. */

import { Graph, layout } from '@dagrejs/dagre';
import { formatDuration } from './format';
import type { Lifecycle } from './resource';

export interface Box {
  name: string;
  kind: 'stable' | 'active' | 'terminal';
  schedulable: boolean;
  initial: boolean;
  title: string;
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Arrow {
  key: string;
  from: string;
  to: string;
  /** All events that make this way, and the time-out, if it is one. */
  events: string[];
  path: string;
  labelX: number;
  labelY: number;
}

export interface Drawing {
  boxes: Box[];
  arrows: Arrow[];
  width: number;
  height: number;
}

const CHAR_PX = 7.2;
const BOX_HEIGHT_PX = 30;
const MARGIN_PX = 12;
const LABEL_CHAR_PX = 5.6;

/** Ways between states: each pair once, with all the events that make it. `*` is every state that is not terminal,
 * except the target itself. */
export function waysOf(table: Lifecycle): Map<string, { from: string; to: string; events: string[] }> {
  const ways = new Map<string, { from: string; to: string; events: string[] }>();
  const every = table.states.filter((state) => state.class !== 'terminal').map((state) => state.name);
  const add = (from: string, to: string, event: string): void => {
    const key = JSON.stringify([from, to]);
    const way = ways.get(key);
    if (way === undefined) ways.set(key, { from, to, events: [event] });
    else if (!way.events.includes(event)) way.events.push(event);
  };
  for (const line of table.transitions) {
    for (const source of line.from) {
      if (source === '*')
        every.filter((name) => name !== line.to).forEach((name) => add(name, line.to, line.event));
      else add(source, line.to, line.event);
    }
  }
  for (const state of table.states) {
    const target = state.on_timeout;
    if (target && table.states.some((other) => other.name === target)) add(state.name, target, 'timeout');
  }
  return ways;
}

export function drawMachine(table: Lifecycle): Drawing {
  const graph = new Graph({ multigraph: false });
  // From top to bottom, in the order of the table: a machine of a dozen states then fits a page at its full size.
  graph.setGraph({
    rankdir: 'TB',
    nodesep: 26,
    edgesep: 14,
    ranksep: 18,
    marginx: MARGIN_PX,
    marginy: MARGIN_PX,
  });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const state of table.states) {
    graph.setNode(state.name, { width: state.name.length * CHAR_PX + 28, height: BOX_HEIGHT_PX });
  }
  const ways = waysOf(table);
  for (const way of ways.values()) {
    const text = labelOf(way.events);
    graph.setEdge(way.from, way.to, { width: text.length * LABEL_CHAR_PX, height: 12, labelpos: 'c' });
  }
  layout(graph);
  const boxes = table.states.map((state): Box => {
    const { x = 0, y = 0, width, height } = graph.node(state.name);
    const deadline = state.deadline_s ? `; at most ${formatDuration(state.deadline_s)}` : '';
    return {
      name: state.name,
      kind: state.class ?? 'stable',
      schedulable: state.schedulable ?? false,
      initial: state.name === table.initial,
      title: `${state.description || state.name} (${state.class ?? 'stable'}${deadline})`,
      x: x - width / 2,
      y: y - height / 2,
      width,
      height,
    };
  });
  const arrows = [...ways].map(([key, way]): Arrow => {
    const edge = graph.edge(way.from, way.to);
    const points = edge.points ?? [];
    const middle = points[Math.floor(points.length / 2)] ?? { x: 0, y: 0 };
    return {
      key,
      ...way,
      path: curve(points),
      labelX: edge.x ?? middle.x,
      labelY: edge.y ?? middle.y,
    };
  });
  const { width = 0, height = 0 } = graph.graph();
  return { boxes, arrows, width, height };
}

export function labelOf(events: string[]): string {
  return events.length > 2 ? `${events[0]} +${events.length - 1}` : events.join(', ');
}

/** A smooth line through the points that the layout gives, which a label's place is one of. Between two points it
 * never swings out beyond them. */
function curve(points: { x: number; y: number }[]): string {
  const [first, ...rest] = points;
  if (first === undefined) return '';
  const slope = (index: number): number => {
    const [before, here, after] = [points[index - 1], points[index], points[index + 1]];
    if (!before || !here || !after) return 0;
    const [left, right] = [slopeOf(before, here), slopeOf(here, after)];
    return left * right <= 0 ? 0 : (2 * left * right) / (left + right);
  };
  let path = `M${round(first.x)} ${round(first.y)}`;
  let from = first;
  rest.forEach((point, index) => {
    const third = (point.y - from.y) / 3;
    const [a, b] = [from.x + third * slope(index), point.x - third * slope(index + 1)];
    path += `C${round(a)} ${round(from.y + third)} ${round(b)} ${round(point.y - third)} ${round(point.x)} ${round(point.y)}`;
    from = point;
  });
  return path;
}

/** How far to the side for each step down. */
function slopeOf(a: { x: number; y: number }, b: { x: number; y: number }): number {
  return b.y === a.y ? 0 : (b.x - a.x) / (b.y - a.y);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
