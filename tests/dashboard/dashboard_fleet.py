"""A mixed fleet as fragments: two clusters and a serving namespace with the troubles that fleets have.

Everything follows from the seed, so a page made from it looks the same each time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

Fragment = dict[str, Any]

GIB = 1024**3
NODES = {"hpc-1": 48, "us-east-1": 24}
GPUS_PER_NODE = 4
MODELS = {"hpc-1": ("NVIDIA H100 80GB HBM3", 80, 700.0), "us-east-1": ("NVIDIA A100-SXM4-40GB", 40, 400.0)}


class Fleet:
    """`fragments(now)` tells the state of all entities at a moment; each call moves it on a little."""

    def __init__(self, seed: int = 7) -> None:
        self._rng = random.Random(seed)
        self._drift: dict[str, float] = {}

    def fragments(self, now: datetime) -> list[Fragment]:
        """One fragment for each entity (some have a second, from another source)."""
        return [*self._nodes(now), *self._gpus(now), *self._work(now), *self._serving(now), *self._rest(now)]

    def _walk(self, name: str, start: float, step: float = 0.04) -> float:
        """A number in 0..1 that wanders."""
        value = self._drift.get(name, start) + self._rng.uniform(-step, step)
        self._drift[name] = min(0.985, max(0.01, value))
        return round(self._drift[name], 4)

    def _nodes(self, now: datetime) -> Iterator[Fragment]:
        for scope, count in NODES.items():
            for index in range(count):
                name = f"{_prefix(scope)}-{index:03d}"
                full = (
                    {7: 0.94, 31: 0.985}.get(index, 0.35 + (index * 37 % 40) / 100)
                    if scope == "hpc-1"
                    else 0.4
                )
                fields: dict[str, Any] = {
                    "cpu_utilization": self._walk(f"{name}.cpu", 0.25 + (index * 53 % 60) / 100),
                    "memory_utilization": 0.975 if name == "hpc-012" else self._walk(f"{name}.mem", 0.45),
                    "disk_utilization": full,
                    "load_1m": round(self._walk(f"{name}.load", 0.4) * 96, 2),
                    "gpu_count": GPUS_PER_NODE,
                    "cpu_count": 96,
                    "memory_total": 1024 * GIB,
                    "hostname": name,
                    "os": "Rocky Linux 9.4",
                    "kernel": "5.14.0-427.el9.x86_64",
                    "booted_at": (now - timedelta(days=11 + index % 30)).isoformat(),
                    "schedulable": name not in ("hpc-020", "hpc-021"),
                    "scheduler_state": "drain" if name in ("hpc-020", "hpc-021") else "mixed",
                }
                labels = {
                    "cluster": scope,
                    "rack": f"r{index // 8 + 1}",
                    "vendor": "dell" if index % 3 else "hpe",
                }
                yield _of("node", name, now, "node-exporter", fields, labels)

    def _gpus(self, now: datetime) -> Iterator[Fragment]:
        for scope, count in NODES.items():
            model, memory_gib, watts = MODELS[scope]
            for index in range(count * GPUS_PER_NODE):
                node = f"{_prefix(scope)}-{index // GPUS_PER_NODE:03d}"
                name = f"GPU-{self._uuid(scope, index)}"
                busy = self._walk(f"{name}.busy", 0.2 + (index * 29 % 75) / 100)
                fields: dict[str, Any] = {
                    "gpu_utilization": busy,
                    "gpu_memory_used": int(memory_gib * GIB * (0.2 + 0.7 * busy)),
                    "gpu_memory_total": memory_gib * GIB,
                    "temperature_celsius": round(34 + 44 * busy, 1),
                    "power_draw_watts": round(watts * (0.15 + 0.8 * busy), 1),
                    "power_limit_watts": watts,
                    "sm_clock_mhz": 1980.0,
                    "ecc_errors": 0,
                    "recovery_action": "none",
                    "gpu_index": index % GPUS_PER_NODE,
                    "model_name": model,
                    "node": node,
                    "driver_version": "570.86.15",
                }
                fields |= _GPU_TROUBLE.get((scope, index), {})
                if scope == "us-east-1" and index in range(64, 72):
                    del fields["temperature_celsius"]  # a driver too old to tell it
                yield _of("gpu", name, now, "dcgm", fields, {"cluster": scope, "node": node})

    def _uuid(self, scope: str, index: int) -> str:
        digits = f"{(hash_of(scope) * 7919 + index * 2654435761) % 16**12:012x}"
        return f"{digits[:8]}-{digits[8:]}-4c1d-9e2b-{(index * 48271 + 11) % 16**12:012x}"

    def _work(self, now: datetime) -> Iterator[Fragment]:
        states = ["running"] * 26 + ["pending"] * 6 + ["completing", "failed", "failed", "completed"]
        for index, state in enumerate(states):
            fields: dict[str, Any] = {"job_state": state, "assigned_gpu_count": 8 * (1 + index % 4)}
            if state in ("running", "completing"):
                fields |= {
                    "gpu_utilization": self._walk(f"job{index}", 0.75),
                    "runtime_seconds": 900.0 * (index + 1),
                    "node": f"hpc-{index:03d}",
                    "memory_used": (40 + index) * GIB,
                }
            labels = {
                "cluster": "hpc-1",
                "user": f"u{index % 7}",
                "account": ["vision", "nlp", "climate"][index % 3],
            }
            yield _of("job", str(481_200 + index), now, "slurm", fields, labels)
        for name, pending, active in (("gpu", 6, 22), ("gpu-long", 0, 4), ("debug", 0, 1)):
            fields = {"queue_state": "up", "queue_depth": pending + active, "pending_jobs": pending}
            fields |= {"active_jobs": active, "avg_wait_seconds": 340.0 * pending}
            yield _of("queue", name, now, "slurm", fields, {"cluster": "hpc-1"})
        for scope, kind in (("hpc-1", "slurm"), ("us-east-1", "kubernetes")):
            fields = {"domain_type": kind, "total_nodes": NODES[scope], "available_nodes": NODES[scope] - 2}
            fields |= {"total_gpus": NODES[scope] * GPUS_PER_NODE, "active_workloads": 26, "version": "24.11"}
            yield _of("scheduler_domain", scope, now, kind, fields, {"cluster": scope})

    def _serving(self, now: datetime) -> Iterator[Fragment]:
        for index, name in enumerate(_SERVICES):
            trouble = _SERVICE_TROUBLE.get(name, {})
            p95 = round(120 + 400 * self._walk(f"{name}.p95", 0.15 + index % 5 / 20), 1)
            fields: dict[str, Any] = {
                "up": True,
                "latency_p50_ms": round(p95 / 2.4, 1),
                "latency_p95_ms": p95,
                "latency_p99_ms": round(p95 * 1.6, 1),
                "error_rate": round(0.004 * self._walk(f"{name}.err", 0.3), 5),
                "throughput": round(900 * self._walk(f"{name}.rps", 0.4), 1),
                "queue_depth": index % 4,
                "replica_count": 4,
                "available_replicas": 4,
                "desired_replicas": 4,
            } | trouble
            labels = {"cluster": "us-east-1", "namespace": "inference", "team": ["search", "chat"][index % 2]}
            yield _of("service", name, now, "vllm", fields, labels)
            replicas = {
                key: fields[key] for key in ("replica_count", "available_replicas", "desired_replicas")
            }
            replicas |= {"updated_replicas": 4, "gpu_utilization": self._walk(f"{name}.gpu", 0.6)}
            yield _of("deployment", name, now, "kubernetes", replicas, labels)
        for index, (model, version) in enumerate(
            (("llama-3.1-70b", "v12"), ("llama-3.1-70b", "v13"), ("bge-m3", "v4"))
        ):
            fields = {"model_name": model, "model_version": version, "revision_state": "serving"}
            fields |= {
                "traffic_percent": [90.0, 10.0, 100.0][index],
                "rollout_phase": ["stable", "canary", "stable"][index],
            }
            yield _of("model_revision", f"{model}@{version}", now, "mlflow", fields, {"cluster": "us-east-1"})

    def _rest(self, now: datetime) -> Iterator[Fragment]:
        for name, used in (("vision", 61.0), ("nlp", 118.0), ("climate", 22.0)):
            fields: dict[str, Any] = {
                "scope_type": "account",
                "resource_quota": {"gpu": 128.0},
                "resource_usage": {"gpu": used},
            }
            yield _of("tenant_scope", name, now, "slurm", fields, {"cluster": "hpc-1"})
        for name, drift in (("/etc/slurm/slurm.conf", False), ("/etc/slurm/gres.conf", True)):
            fields = {
                "config_hash": "sha256:9f2c41aa",
                "drift": drift,
                "present": True,
                "path": name,
                "size_bytes": 8214,
            }
            yield _of("config_snapshot", name, now, "host", fields, {"cluster": "hpc-1"})
        for index, name in enumerate(("ingest", "tokenize", "dedupe", "embed")):
            fields = {
                "stage_state": "running",
                "throughput": 4200.0 / (index + 1),
                "lag_messages": 12 * index**3,
            }
            yield _of(
                "data_pipeline_stage",
                name,
                now - timedelta(minutes=4),
                "kafka",
                fields | {"lag_seconds": 2.0 * index**2},
                {"cluster": "us-east-1"},
            )
        for index in range(5):
            fields = {"run_state": "running", "experiment": "llama-ft", "artifacts": 3 * index}
            seen = now - timedelta(hours=3) if index > 2 else now
            yield _of(
                "experiment_tracker", f"run-{7100 + index}", seen, "mlflow", fields, {"cluster": "us-east-1"}
            )


_SERVICES = (
    "chat-completions", "embeddings", "rerank", "vision-caption", "speech-to-text",
    "code-assist", "moderation", "search-api", "summarise", "translate",
)  # fmt: skip
_SERVICE_TROUBLE: dict[str, dict[str, Any]] = {
    "chat-completions": {"latency_p95_ms": 2380.0, "latency_p99_ms": 4110.0, "queue_depth": 61},
    "rerank": {"error_rate": 0.118, "last_error": "502 from upstream: no healthy replica"},
    "speech-to-text": {
        "up": False,
        "available_replicas": 0,
        "error_rate": 1.0,
        "last_error": "connection refused",
    },
    "translate": {"available_replicas": 2},
}
_GPU_TROUBLE: dict[tuple[str, int], dict[str, Any]] = {
    ("hpc-1", 50): {
        "temperature_celsius": 93.0,
        "throttle_reasons": ["hw_thermal_slowdown"],
        "sm_clock_mhz": 810.0,
    },
    ("hpc-1", 51): {"temperature_celsius": 86.0, "throttle_reasons": ["sw_thermal_slowdown"]},
    ("hpc-1", 113): {"ecc_errors": 17, "row_remap_failed": True, "recovery_action": "gpu_reset"},
    ("hpc-1", 147): {"xid": 79, "recovery_action": "node_reboot"},
    ("us-east-1", 12): {"row_remap_pending": True, "ecc_errors": 2},
    ("us-east-1", 40): {"recovery_action": "drain_and_reset"},
}


def hash_of(text: str) -> int:
    """A hash that is the same in every process."""
    return sum((index + 1) * ord(char) for index, char in enumerate(text))


def _prefix(scope: str) -> str:
    return "hpc" if scope == "hpc-1" else "use1"


def _of(
    kind: str, name: str, now: datetime, source: str, fields: dict[str, Any], labels: dict[str, str]
) -> Fragment:
    return {
        "source_type": source,
        "entity_type": kind,
        "entity_id": name,
        "observed_at": now.isoformat(),
        "fields": fields,
        "labels": labels,
    }
