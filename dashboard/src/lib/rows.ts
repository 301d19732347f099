/** Which rows a table shows while the fleet changes under it: values always move, rows only when nobody looks.
 *
 * While someone points at or steps through a table its order is held: rows stay where they are, also those
 * that no longer match or are gone, and new ones wait. Letting go puts everything in its place. */

export interface Held {
  /** Keys in the order shown. */
  shown: string[];
  /** Rows that would be shown now and are not. */
  added: number;
  /** Rows that are shown and would not be now. */
  removed: number;
}

/** The order held fast against the one that would be shown now. */
export function holdOrder(shown: string[], wanted: string[]): Held {
  const now = new Set(wanted);
  let kept = 0;
  for (const key of shown) if (now.has(key)) kept += 1;
  return { shown, added: wanted.length - kept, removed: shown.length - kept };
}

export interface Window {
  first: number;
  last: number;
}

/** Rows drawn above and below those in sight, so that a quick scroll finds them there. */
export const OVERSCAN_ROWS = 8;

/** The rows to draw: [first, last), for a list of rows of one height. */
export function windowOf(scrollTop: number, viewHeight: number, rowHeight: number, rows: number): Window {
  const first = Math.max(0, Math.floor(scrollTop / rowHeight) - OVERSCAN_ROWS);
  const last = Math.min(rows, Math.ceil((scrollTop + viewHeight) / rowHeight) + OVERSCAN_ROWS);
  return { first: Math.min(first, Math.max(0, last)), last };
}

/** Where to scroll so that the row which was first in sight stays where it was after the order changed. */
export function anchorScroll(
  before: string[],
  after: string[],
  scrollTop: number,
  rowHeight: number,
): number {
  if (scrollTop <= 0) return 0;
  const index = Math.floor(scrollTop / rowHeight);
  const key = before[index];
  const moved = key === undefined ? -1 : after.indexOf(key);
  return moved === -1 ? scrollTop : moved * rowHeight + (scrollTop - index * rowHeight);
}

/** Where to scroll, if at all, so that a row is whole in sight. */
export function scrollToRow(index: number, scrollTop: number, viewHeight: number, rowHeight: number): number {
  const top = index * rowHeight;
  if (top < scrollTop) return top;
  return top + rowHeight > scrollTop + viewHeight ? top + rowHeight - viewHeight : scrollTop;
}
