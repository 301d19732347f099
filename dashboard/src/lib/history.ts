/** An entity's recent past, as charts need it. */

import type { EntityHistory, Health } from './wire';

export interface Series {
  field: string;
  /** [ms since 1970, value], oldest first. */
  points: [number, number][];
}

/** One series for each numeric field, in order of first appearance. */
export function seriesOf(history: EntityHistory): Series[] {
  const series = new Map<string, [number, number][]>();
  for (const { at, values } of history.samples) {
    const ms = Date.parse(at);
    for (const [field, value] of Object.entries(values)) {
      const points = series.get(field);
      if (points) points.push([ms, value]);
      else series.set(field, [[ms, value]]);
    }
  }
  return [...series].map(([field, points]) => ({ field, points }));
}

export interface Stretch {
  health: Health;
  from: number;
  to: number;
}

/** Health over [from, to] as stretches without gaps; before the first change it was unknown. */
export function stretchesOf(changes: EntityHistory['health'], from: number, to: number): Stretch[] {
  const stretches: Stretch[] = [];
  let health: Health = 'unknown';
  let start = from;
  for (const change of changes) {
    const at = Date.parse(change.at);
    if (at > from && at < to && at > start) {
      stretches.push({ health, from: start, to: at });
      start = at;
    }
    if (at < to) health = change.health;
  }
  if (to > start) stretches.push({ health, from: start, to });
  return stretches;
}

/** The points of an SVG polyline in a box of the given size; a flat line runs through the middle. */
export function sparkPoints(points: [number, number][], width: number, height: number): string {
  if (points.length < 2) return '';
  const times = points.map(([at]) => at);
  const values = points.map(([, value]) => value);
  const [t0, t1] = [Math.min(...times), Math.max(...times)];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return points
    .map(([at, value]) => {
      const x = t1 > t0 ? ((at - t0) / (t1 - t0)) * width : width;
      const y = high > low ? (1 - (value - low) / (high - low)) * height : height / 2;
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    })
    .join(' ');
}

export interface Axis {
  min?: number;
  max?: number;
  interval?: number;
  scale?: boolean;
  splitNumber?: number;
}

/** A value axis with marks that read well: shares from 0, to 100 % once half of that is reached; bytes from 0 in
 * steps of a power of two; all else as ECharts finds it. */
export function axisOf(points: [number, number][], unit: string): Axis {
  const high = Math.max(0, ...points.map(([, value]) => value));
  if (unit === '1')
    return high > 0.5 && high <= 1 ? { min: 0, max: 1, interval: 0.5 } : { min: 0, splitNumber: 2 };
  if (unit === 'B' && high > 0) {
    const step = 2 ** Math.ceil(Math.log2(high / 3));
    return { min: 0, max: Math.ceil(high / step) * step, interval: step };
  }
  return { scale: true, splitNumber: 2 };
}
