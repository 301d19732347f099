/** Values for people: canonical units in, words out. Never throws; what it can't read it shows as it is. */

export const NONE = '—';

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
const COUNT_UNITS = ['', 'k', 'M', 'G', 'T'];

/** A number in at most three or four significant digits, without trailing noise. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return value.toLocaleString('en-US');
  if (size >= 1e15) return value.toExponential(2);
  if (size >= 1e6) {
    const step = Math.min(Math.floor(Math.log10(size) / 3), COUNT_UNITS.length - 1);
    return `${trim(value / 10 ** (3 * step), 2)} ${COUNT_UNITS[step]}`;
  }
  if (size >= 100) return Math.round(value).toLocaleString('en-US');
  if (size >= 1) return trim(value, size >= 10 ? 1 : 2);
  if (size === 0) return '0';
  return size < 0.001 ? value.toExponential(1) : trim(value, 3);
}

function trim(value: number, digits: number): string {
  const text = value.toFixed(digits);
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

export function formatBytes(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  const step = size < 1024 ? 0 : Math.min(Math.floor(Math.log2(size) / 10), BYTE_UNITS.length - 1);
  const scaled = value / 1024 ** step;
  const digits = step === 0 || Math.abs(scaled) >= 100 ? 0 : Math.abs(scaled) >= 10 ? 1 : 2;
  return `${trim(scaled, digits)} ${BYTE_UNITS[step]}`;
}

/** A share of 0 to 1 as a percentage. Small but not zero never reads as 0 %, and almost all never as 100 %. */
export function formatShare(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  const percent = value * 100;
  if (percent > 0 && percent < 0.01) return '< 0.01 %';
  if (percent > 0 && percent < 1) return `${trim(percent, 2)} %`;
  if (percent > 99 && percent < 100) return `${trim(Math.min(percent, 99.9), 1)} %`;
  return `${trim(percent, Math.abs(percent) < 10 || (percent >= 90 && percent < 100) ? 1 : 0)} %`;
}

/** A length of time in its two largest parts: "3 d 4 h", "12 s", "850 ms". */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return NONE;
  const sign = seconds < 0 ? '-' : '';
  const size = Math.abs(seconds);
  if (size > 0 && size < 1) return `${sign}${Math.max(1, Math.round(size * 1000))} ms`;
  if (size < 60) return `${sign}${size < 10 ? trim(size, 1) : Math.round(size)} s`;
  const whole = Math.round(size);
  const parts: [number, string][] = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return sign + shown.map(([count, unit]) => `${count} ${unit}`).join(' ');
}

/** The age of something seen at `then`, in one part, for columns: "now", "42 s", "5 min", "3 h", "12 d". */
export function formatAge(ageS: number): string {
  if (!Number.isFinite(ageS)) return NONE;
  if (ageS < 1) return 'now';
  if (ageS < 60) return `${Math.floor(ageS)} s`;
  if (ageS < 3600) return `${Math.floor(ageS / 60)} min`;
  if (ageS < 86_400) return `${Math.floor(ageS / 3600)} h`;
  return `${Math.floor(ageS / 86_400)} d`;
}

/** The same in a sentence: "now", "42 s ago". */
export function formatAgo(ageS: number): string {
  const age = formatAge(ageS);
  return age === 'now' || age === NONE ? age : `${age} ago`;
}

/** Seconds since an ISO time; NaN if it can't be read. A time ahead of us counts as now. */
export function ageOf(iso: string | null | undefined, nowMs: number): number {
  if (!iso) return NaN;
  const then = Date.parse(iso);
  return Number.isNaN(then) ? NaN : Math.max(0, (nowMs - then) / 1000);
}

/** A moment as "2026-11-24 07:05:10 UTC": the fleet's time, not the reader's. */
export function formatMoment(iso: string): string {
  const then = new Date(iso);
  if (Number.isNaN(then.getTime())) return iso;
  return `${then.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

/** Any field's value in the words of its unit (UCUM's symbols, as the API gives them). */
export function formatValue(value: unknown, unit = ''): string {
  if (value === null || value === undefined) return NONE;
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'number') return formatQuantity(value, unit);
  if (typeof value === 'string') return isMoment(value) ? formatMoment(value) : value;
  if (Array.isArray(value))
    return value.length === 0 ? 'none' : value.map((item) => formatValue(item, unit)).join(', ');
  if (typeof value === 'object') {
    const parts = Object.entries(value).map(([name, item]) => `${name} ${formatValue(item, unit)}`);
    return parts.length === 0 ? 'none' : parts.join(', ');
  }
  return String(value);
}

const SUFFIXES: Record<string, string> = { ms: 'ms', Cel: '°C', W: 'W', MHz: 'MHz', '1/s': '/s', '%': '%' };

function formatQuantity(value: number, unit: string): string {
  if (unit === '1') return formatShare(value);
  if (unit === 'B') return formatBytes(value);
  if (unit === 'B/s') return `${formatBytes(value)}/s`;
  if (unit === 's') return formatDuration(value);
  const suffix = SUFFIXES[unit] ?? unit;
  return suffix === '' ? formatNumber(value) : `${formatNumber(value)} ${suffix}`;
}

const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

export function isMoment(text: string): boolean {
  return MOMENT.test(text);
}

/** "model_revision" → "model revision". */
export function words(name: string): string {
  return name.replaceAll('_', ' ');
}

const TYPE_TITLES: Record<string, string> = {
  service: 'Services',
  deployment: 'Deployments',
  gpu: 'GPUs',
  node: 'Nodes',
  job: 'Jobs',
  queue: 'Queues',
  model_revision: 'Model revisions',
  scheduler_domain: 'Scheduler domains',
  tenant_scope: 'Tenant scopes',
  experiment_tracker: 'Experiment trackers',
  data_pipeline_stage: 'Pipeline stages',
  config_snapshot: 'Config snapshots',
};

/** The types in the order of the menu: from what serves to what describes. */
export const TYPE_ORDER = Object.keys(TYPE_TITLES);

export function typeTitle(type: string): string {
  return TYPE_TITLES[type] ?? words(type);
}
