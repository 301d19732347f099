import { describe, expect, test } from 'vitest';
import { anchorScroll, holdOrder, OVERSCAN_ROWS, scrollToRow, windowOf } from '../src/lib/rows';

describe('rows', () => {
  test('only those in sight and a few around them are drawn, of however many', () => {
    expect(windowOf(0, 600, 30, 10_000)).toEqual({ first: 0, last: 20 + OVERSCAN_ROWS });
    expect(windowOf(150_000, 600, 30, 10_000)).toEqual({
      first: 5000 - OVERSCAN_ROWS,
      last: 5020 + OVERSCAN_ROWS,
    });
    expect(windowOf(299_400, 600, 30, 10_000).last).toBe(10_000);
    expect(windowOf(0, 600, 30, 0)).toEqual({ first: 0, last: 0 });
  });
  test('a list that shrank under a far scroll draws nothing wrong', () => {
    const { first, last } = windowOf(300_000, 600, 30, 3);
    expect(first).toBeLessThanOrEqual(last);
    expect(last).toBe(3);
  });
  test('a held order counts what waits', () => {
    expect(holdOrder(['a', 'b', 'c'], ['c', 'a', 'd', 'e'])).toEqual({
      shown: ['a', 'b', 'c'],
      added: 2,
      removed: 1,
    });
  });
  test('the first row in sight stays where it was when rows come above it', () => {
    expect(anchorScroll(['a', 'b', 'c'], ['x', 'y', 'a', 'b', 'c'], 35, 30)).toBe(95);
    expect(anchorScroll(['a', 'b', 'c'], ['x', 'a', 'b', 'c'], 0, 30)).toBe(0);
    expect(anchorScroll(['a', 'b', 'c'], ['a', 'c'], 35, 30)).toBe(35);
  });
  test('a row is scrolled to only as far as needed', () => {
    expect(scrollToRow(0, 90, 300, 30)).toBe(0);
    expect(scrollToRow(5, 90, 300, 30)).toBe(90);
    expect(scrollToRow(20, 90, 300, 30)).toBe(330);
  });
});
