/** Which fields of a type its table shows, in order: what someone on call looks at first. */

import table from './fields.json';

export interface FieldFacts {
  type: string;
  unit: string;
  pace: string;
  doc: string;
}

const FIELDS = table as Record<string, Record<string, FieldFacts>>;

export interface Column {
  field: string;
  title: string;
  /** Drawn as a small bar too: a share of 0 to 1. */
  bar?: boolean;
  /** Weight of the column's width against the others. */
  width: number;
}

const KEY_FIELDS: Record<string, Column[]> = {
  service: [
    { field: 'latency_p95_ms', title: 'p95', width: 8 },
    { field: 'latency_p99_ms', title: 'p99', width: 8 },
    { field: 'error_rate', title: 'Errors', width: 8 },
    { field: 'throughput', title: 'Rate', width: 8 },
    { field: 'queue_depth', title: 'Queued', width: 7 },
    { field: 'available_replicas', title: 'Replicas', width: 8 },
  ],
  deployment: [
    { field: 'available_replicas', title: 'Ready', width: 7 },
    { field: 'desired_replicas', title: 'Desired', width: 8 },
    { field: 'updated_replicas', title: 'Updated', width: 8 },
    { field: 'cpu_utilization', title: 'CPU', width: 11, bar: true },
    { field: 'memory_utilization', title: 'Memory', width: 11, bar: true },
    { field: 'gpu_utilization', title: 'GPU', width: 11, bar: true },
  ],
  gpu: [
    { field: 'node', title: 'Node', width: 11 },
    { field: 'model_name', title: 'Model', width: 13 },
    { field: 'gpu_utilization', title: 'Busy', width: 11, bar: true },
    { field: 'gpu_memory_used', title: 'Memory used', width: 10 },
    { field: 'temperature_celsius', title: 'Temp.', width: 7 },
    { field: 'power_draw_watts', title: 'Power', width: 7 },
    { field: 'ecc_errors', title: 'ECC', width: 6 },
  ],
  node: [
    { field: 'cpu_utilization', title: 'CPU', width: 11, bar: true },
    { field: 'memory_utilization', title: 'Memory', width: 11, bar: true },
    { field: 'disk_utilization', title: 'Disk', width: 11, bar: true },
    { field: 'load_1m', title: 'Load', width: 7 },
    { field: 'gpu_count', title: 'GPUs', width: 6 },
    { field: 'scheduler_state', title: 'Scheduler', width: 9 },
  ],
  job: [
    { field: 'job_state', title: 'State', width: 10 },
    { field: 'node', title: 'Node', width: 11 },
    { field: 'assigned_gpu_count', title: 'GPUs', width: 6 },
    { field: 'gpu_utilization', title: 'GPU busy', width: 11, bar: true },
    { field: 'memory_used', title: 'Memory', width: 9 },
    { field: 'runtime_seconds', title: 'Runtime', width: 9 },
  ],
  queue: [
    { field: 'queue_state', title: 'State', width: 9 },
    { field: 'queue_depth', title: 'Depth', width: 8 },
    { field: 'pending_jobs', title: 'Pending', width: 8 },
    { field: 'active_jobs', title: 'Running', width: 8 },
    { field: 'avg_wait_seconds', title: 'Mean wait', width: 9 },
  ],
  model_revision: [
    { field: 'model_name', title: 'Model', width: 14 },
    { field: 'model_version', title: 'Version', width: 8 },
    { field: 'revision_state', title: 'State', width: 9 },
    { field: 'rollout_phase', title: 'Rollout', width: 9 },
    { field: 'traffic_percent', title: 'Traffic', width: 8 },
  ],
  scheduler_domain: [
    { field: 'domain_type', title: 'Kind', width: 10 },
    { field: 'available_nodes', title: 'Nodes free', width: 9 },
    { field: 'total_nodes', title: 'Nodes', width: 8 },
    { field: 'total_gpus', title: 'GPUs', width: 8 },
    { field: 'active_workloads', title: 'Workloads', width: 9 },
    { field: 'version', title: 'Version', width: 8 },
  ],
  tenant_scope: [
    { field: 'scope_type', title: 'Kind', width: 9 },
    { field: 'resource_usage', title: 'Usage', width: 16 },
    { field: 'resource_quota', title: 'Quota', width: 16 },
    { field: 'active_workloads', title: 'Workloads', width: 9 },
  ],
  experiment_tracker: [],
  data_pipeline_stage: [
    { field: 'stage_state', title: 'State', width: 9 },
    { field: 'throughput', title: 'Rate', width: 8 },
    { field: 'lag_messages', title: 'Behind', width: 8 },
    { field: 'lag_seconds', title: 'Lag', width: 8 },
  ],
  config_snapshot: [
    { field: 'path', title: 'Path', width: 18 },
    { field: 'drift', title: 'Drift', width: 7 },
    { field: 'config_hash', title: 'Hash', width: 14 },
    { field: 'size_bytes', title: 'Size', width: 8 },
  ],
};

/** Columns of a type's table; for all types together, and for a type not named above, what fits best. */
export function columnsOf(type: string): Column[] {
  const known = KEY_FIELDS[type];
  if (known && known.length > 0) return known;
  return Object.keys(FIELDS[type] ?? {})
    .slice(0, 5)
    .map((field) => ({ field, title: titleOf(field), width: 10 }));
}

function titleOf(field: string): string {
  const text = field.replaceAll('_', ' ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function factsOf(type: string, field: string): FieldFacts | undefined {
  return FIELDS[type]?.[field];
}

export function unitOf(type: string, field: string): string {
  return factsOf(type, field)?.unit ?? '';
}

/** Whether a field holds numbers, which are set to the right. */
export function isNumeric(type: string, field: string): boolean {
  const kind = factsOf(type, field)?.type;
  return kind === 'float' || kind === 'int';
}
