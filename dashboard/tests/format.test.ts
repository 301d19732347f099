import { describe, expect, test } from 'vitest';
import {
  ageOf,
  formatAge,
  formatBytes,
  formatDuration,
  formatMoment,
  formatNumber,
  formatShare,
  formatValue,
  NONE,
} from '../src/lib/format';

describe('units', () => {
  test.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [85_899_345_920, '80 GiB'],
    [42_300_000_000, '39.4 GiB'],
    [-2048, '-2 KiB'],
    [NaN, NONE],
  ])('%d bytes are %s', (value, text) => expect(formatBytes(value)).toBe(text));

  test.each([
    [0, '0 %'],
    [0.00001, '< 0.01 %'],
    [0.0042, '0.42 %'],
    [0.05, '5 %'],
    [0.634, '63 %'],
    [0.975, '97.5 %'],
    [0.9999, '99.9 %'],
    [1, '100 %'],
    [1.7, '170 %'],
  ])('a share of %d is %s', (value, text) => expect(formatShare(value)).toBe(text));

  test.each([
    [0, '0 s'],
    [0.0004, '1 ms'],
    [0.25, '250 ms'],
    [9.5, '9.5 s'],
    [42, '42 s'],
    [60, '1 min'],
    [3661, '1 h 1 min'],
    [3600 * 24 * 3 + 4 * 3600, '3 d 4 h'],
    [86_400 + 59, '1 d'],
    [-90, '-1 min 30 s'],
    [Infinity, NONE],
  ])('%d seconds are %s', (value, text) => expect(formatDuration(value)).toBe(text));

  test.each([
    [0, '0'],
    [12, '12'],
    [112_500, '112,500'],
    [3.14159, '3.14'],
    [31.4159, '31.4'],
    [0.012345, '0.012'],
    [0.00001, '1.0e-5'],
    [12_345_678, '12.35 M'],
  ])('%d is %s', (value, text) => expect(formatNumber(value)).toBe(text));

  test('each unit of the API has its words', () => {
    expect(formatValue(142, 'ms')).toBe('142 ms');
    expect(formatValue(71.5, 'Cel')).toBe('71.5 °C');
    expect(formatValue(412, 'W')).toBe('412 W');
    expect(formatValue(0.83, '1')).toBe('83 %');
    expect(formatValue(25, '%')).toBe('25 %');
    expect(formatValue(7, '')).toBe('7');
    expect(formatValue(12.5, '1/s')).toBe('12.5 /s');
  });

  test('values of every shape are readable', () => {
    expect(formatValue(null)).toBe(NONE);
    expect(formatValue(false)).toBe('no');
    expect(formatValue([])).toBe('none');
    expect(formatValue(['sw_power_cap', 'hw_slowdown'])).toBe('sw_power_cap, hw_slowdown');
    expect(formatValue({ '/': 0.5, '/data': 0.91 }, '1')).toBe('/ 50 %, /data 91 %');
    expect(formatValue('2026-11-24T07:05:10.123Z')).toBe('2026-11-24 07:05:10 UTC');
    expect(formatValue('<b>bold</b>')).toBe('<b>bold</b>');
  });
});

describe('ages', () => {
  test.each([
    [0.4, 'now'],
    [59.9, '59 s'],
    [60, '1 min'],
    [7199, '1 h'],
    [86_400 * 12, '12 d'],
    [NaN, NONE],
  ])('%d seconds old is %s', (age, text) => expect(formatAge(age)).toBe(text));

  test('a time ahead of us counts as now, and none as no age', () => {
    const now = Date.parse('2026-01-01T00:00:10Z');
    expect(ageOf('2026-01-01T00:00:00Z', now)).toBe(10);
    expect(ageOf('2026-01-01T00:01:00Z', now)).toBe(0);
    expect(ageOf(null, now)).toBeNaN();
    expect(ageOf('yesterday', now)).toBeNaN();
  });

  test('a moment is told in UTC; what is none is told as it is', () => {
    expect(formatMoment('2026-01-01T02:00:00+02:00')).toBe('2026-01-01 00:00:00 UTC');
    expect(formatMoment('soon')).toBe('soon');
  });
});
