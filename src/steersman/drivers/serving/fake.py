"""Model servers in a box: the pages of each stack in its documented shapes, the list of models, readiness.

What happens to a server is told once, as a `Load`; each renderer says it in its stack's names, units, kinds.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from steersman.drivers.web.fake import FakeSystem, Request, Response, WebFake

TEXT = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, float("inf"))
MODEL = "llama-3"


class Load(Struct):
    """What a server has done since it started, and what it does now.

    `latencies` has a latency in seconds and how many requests had it, for each burst. Requests that came are
    those that went well, those that failed, those that their clients gave up, and those that wait or run now.
    """

    well: int = 0
    failed: int = 0
    aborted: int = 0
    in_flight: int = 0
    waiting: int = 0
    tokens: int = 0
    preempted: int = 0
    cache_used: float = 0.0
    latencies: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])

    def serve(self, requests: int, latency_s: float = 0.2, failed: int = 0) -> None:
        """Some requests came and went; those that failed count no latency."""
        self.well += requests
        self.failed += failed
        self.tokens += 10 * requests
        if requests:
            self.latencies.append((latency_s, requests))

    @property
    def came(self) -> int:
        """Requests that have come."""
        return self.well + self.failed + self.aborted + self.in_flight + self.waiting

    @property
    def busy_s(self) -> float:
        """Time spent on requests that went well."""
        return sum(latency_s * count for latency_s, count in self.latencies)


class FakeServer(FakeSystem):
    """Serves the page of one stack at /metrics, the models at /v1/models and readiness at /health.

    `load` is what it tells; with `moving` each page has some requests more. `extra` stands behind the page,
    and `shape` makes another page of it.
    `authorization` is demanded where it is set. `web` has the faults; not `ready` answers readiness with 503.
    """

    def __init__(self, flavor: str, *, authorization: str = "", moving: bool = False) -> None:
        self.flavor = flavor
        self.load = Load()
        self.extra = ""
        self.shape: Callable[[str], str] = str
        self.models: Any = [{"id": MODEL, "object": "model", "owned_by": "vllm", "root": MODEL}]
        self.ready = True
        self.authorization = authorization
        self.moving = moving
        self.web = WebFake(self._answer)

    @property
    def url(self) -> str:
        """What a source is configured with."""
        return f"{self.web.url}/v1" if self.flavor == "openai" else f"{self.web.url}/metrics"

    @property
    def health_url(self) -> str:
        """Where it says whether it is ready."""
        return f"{self.web.url}/health"

    async def _answer(self, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if path == "/health":
            return Response(b"", 200 if self.ready else 503)
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return Response(b"who are you?", 401)
        if path == "/v1/models":
            body = json.dumps({"object": "list", "data": self.models}).encode()
            return Response(body, 200, "application/json")
        if path != "/metrics" or self.flavor == "openai":
            return Response(b"not found", 404)
        if self.moving:
            self.load.serve(20)
        body = self.shape(PAGES[self.flavor](self.load) + self.extra).encode()
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(gzip.compress(body, 1), 200, TEXT, {"Content-Encoding": "gzip"})
        return Response(body, 200, TEXT)


def vllm_page(load: Load, *, engines: int = 1, old: bool = False) -> str:
    """vLLM v1; `old` is version 0.8: other names for cache and time per token. 0.9 has both."""
    lines: list[str] = []
    for engine in range(engines):
        labels = {"engine": str(engine), "model_name": MODEL}
        lines += [
            _line("vllm:num_requests_running", labels, load.in_flight),
            _line("vllm:num_requests_waiting", labels, load.waiting),
            _line("vllm:gpu_cache_usage_perc", labels, load.cache_used),
            _line("vllm:gpu_prefix_cache_queries_total", labels, 4 * load.well),
            _line("vllm:gpu_prefix_cache_hits_total", labels, load.well),
            _line("vllm:num_preemptions_total", labels, load.preempted),
            _line("vllm:prompt_tokens_total", labels, 5 * load.tokens),
            _line("vllm:generation_tokens_total", labels, load.tokens),
            _line("vllm:request_success_total", {**labels, "finished_reason": "stop"}, load.well),
            _line("vllm:request_success_total", {**labels, "finished_reason": "length"}, 0),
            _line("vllm:request_success_total", {**labels, "finished_reason": "abort"}, load.aborted),
            _line("vllm:request_success_total", {**labels, "finished_reason": "error"}, load.failed),
            *_histogram("vllm:e2e_request_latency_seconds", labels, load),
            *_histogram("vllm:time_to_first_token_seconds", labels, load, share=0.5),
            *_histogram("vllm:request_queue_time_seconds", labels, load, share=0.5),
            *_histogram("vllm:time_per_output_token_seconds", labels, load, share=0.5),
        ]
        if not old:
            lines += [
                _line("vllm:kv_cache_usage_perc", labels, load.cache_used),
                _line("vllm:prefix_cache_queries_total", labels, 4 * load.well),
                _line("vllm:prefix_cache_hits_total", labels, load.well),
                *_histogram("vllm:inter_token_latency_seconds", labels, load, share=0.5),
            ]
    return _page(lines)


def sglang_page(load: Load, *, tp: int = 1, pp: int = 1, dp: int = 1) -> str:
    """SGLang with metrics of all schedulers: each rank of a replica (`dp`) tells the same."""
    lines: list[str] = []
    for dp_rank in range(dp):
        for rank in range(tp * pp):
            labels = {"engine_type": "unified", "model_name": MODEL, "moe_ep_rank": "0"}
            labels |= {"tp_rank": str(dp_rank * tp + rank % tp), "pp_rank": str(rank // tp)}
            labels |= {"dp_rank": str(dp_rank)} if dp > 1 else {}
            lines += [
                _line("sglang:num_running_reqs", labels, load.in_flight),
                _line("sglang:num_queue_reqs", labels, load.waiting),
                _line("sglang:token_usage", labels, load.cache_used),
                _line("sglang:cache_hit_rate", labels, 0.25),
                _line("sglang:gen_throughput", labels, 123.0),
                *_histogram("sglang:queue_time_seconds", labels, load, share=0.5),
            ]
    labels = {"engine_type": "unified", "model_name": MODEL}  # the tokenizer's own: once
    lines += [
        _line("sglang:prompt_tokens_total", labels, 5 * load.tokens),
        _line("sglang:generation_tokens_total", labels, load.tokens),
        _line("sglang:num_requests_total", labels, load.well + load.failed),
        *([_line("sglang:num_aborted_requests_total", labels, load.aborted)] if load.aborted else []),
        *_histogram("sglang:e2e_request_latency_seconds", labels, load),
        *_histogram("sglang:time_to_first_token_seconds", labels, load, share=0.5),
        *_histogram("sglang:inter_token_latency_seconds", labels, load, share=0.5),
    ]
    return _page(lines)


def tgi_page(load: Load, *, tells_failures: bool = False) -> str:
    """Text Generation Inference; `tells_failures` is a version that counts them, once there was one."""
    failures = [_line("tgi_request_failure", {"err": "overloaded"}, load.failed)]
    return _page(
        [
            _line("tgi_queue_size", {}, load.waiting),
            _line("tgi_batch_current_size", {}, load.in_flight),
            _line("tgi_request_count", {}, load.came),
            _line("tgi_request_success", {}, load.well),
            *(failures if tells_failures and load.failed else []),
            _line("tgi_request_generated_tokens_sum", {}, load.tokens),
            _line("tgi_request_input_length_sum", {}, 5 * load.tokens),
            *_histogram("tgi_request_duration", {}, load),
            *_histogram("tgi_request_queue_duration", {}, load, share=0.5),
            *_histogram("tgi_request_mean_time_per_token_duration", {}, load, share=0.5),
        ]
    )


def triton_page(load: Load, *, summaries: bool = False) -> str:
    """Triton with two versions of one model: the first has three of four requests. Microseconds."""
    lines = [
        _line("nv_gpu_utilization", {"gpu_uuid": "GPU-7"}, 0.5),
        _line("nv_gpu_memory_used_bytes", {"gpu_uuid": "GPU-7"}, 1024),
        _line("nv_gpu_power_usage", {"gpu_uuid": "GPU-7"}, 250.5),
    ]
    for version, share in (("1", 0.75), ("2", 0.25)):
        labels = {"model": MODEL, "version": version}
        lines += [
            _line("nv_inference_request_success", labels, share * load.well),
            _line("nv_inference_request_failure", {**labels, "reason": "BACKEND"}, share * load.failed),
            _line("nv_inference_request_failure", {**labels, "reason": "OTHER"}, 0),
            _line("nv_inference_request_duration_us", labels, share * load.busy_s * 1e6),
            _line("nv_inference_queue_duration_us", labels, share * load.busy_s * 0.5e6),
            _line("nv_inference_pending_request_count", labels, load.waiting if version == "1" else 0),
        ]
        if summaries:
            quantile = {**labels, "quantile": "0.95"}
            value = f"{load.latencies[-1][0] * 1e6}" if load.latencies else "Nan"
            lines.append(f"nv_inference_request_summary_us{_braces(quantile)} {value}")
    return _page(lines)


def ray_serve_page(load: Load, *, doubled: bool = False, bare: bool = False) -> str:
    """Ray Serve with one deployment of two replicas. `doubled` shows counters with and without _total, as
    Ray 2.3 to 2.5 do; `bare` leaves the prefix out, as Ray 1 did."""
    labels = {"application": "chat", "deployment": "Model"}
    proxy = {"application": "chat", "method": "POST", "route": "/"}
    endings = ("_total", "") if doubled else ("_total",)
    lines = [
        _line("ray_serve_deployment_queued_queries", {**labels, "handle": "h1"}, load.waiting),
        _line("ray_serve_deployment_status", labels, 6),
        _line("ray_serve_autoscaling_target_replicas", labels, 2),
    ]
    for replica, share in (("a", 0.5), ("b", 0.5)):
        own = {**labels, "replica": replica}
        lines += [
            _line("ray_serve_replica_processing_queries", own, share * load.in_flight),
            _line("ray_serve_deployment_replica_healthy", own, 1),
            *_histogram("ray_serve_deployment_processing_latency_ms", own, load, unit=1000),
        ]
        for end in endings:
            lines.append(_line(f"ray_serve_deployment_request_counter{end}", own, share * load.well))
            if load.failed:
                error = {**own, "exception_type": "RuntimeError"}
                lines.append(_line(f"ray_serve_deployment_error_counter{end}", error, share * load.failed))
    for end in endings:
        lines.append(_line(f"ray_serve_num_http_requests{end}", {**proxy, "status_code": "200"}, load.well))
        if load.failed:
            code = {**proxy, "status_code": "500"}
            lines.append(_line(f"ray_serve_num_http_requests{end}", code, load.failed))
            error = {**proxy, "error_code": "500"}
            lines.append(_line(f"ray_serve_num_http_error_requests{end}", error, load.failed))
    lines += _histogram("ray_serve_http_request_latency_ms", {**proxy, "status_code": "200"}, load, unit=1000)
    page = _page(lines)
    return page.replace("ray_serve_", "serve_") if bare else page


def knative_page(load: Load, *, otel: bool = True, labelled: bool = True) -> str:
    """The queue proxy of a revision: OpenTelemetry in seconds, or (`otel` False) OpenCensus in milliseconds.
    Not `labelled`: what it is stands on target_info alone."""
    if otel:
        who = {"k8s_namespace_name": "prod", "kn_revision_name": "chat-2", "kn_service_name": "chat"}
        labels = who if labelled else {}
        name = "kn_serving_invocation_duration_seconds"
        well, failed = ({**labels, "http_response_status_code": code} for code in ("200", "503"))
        return _page(
            [
                _line("target_info", who, 1),
                _line("kn_serving_queue_depth", labels, load.waiting),
                *_histogram(name, well, load),
                _line(f"{name}_count", well, load.well),
                *([_line(f"{name}_count", failed, load.failed)] if load.failed else []),
            ]
        )
    labels = {"namespace_name": "prod", "revision_name": "chat-2", "service_name": "chat"}
    labels |= {"configuration_name": "chat", "container_name": "queue-proxy"}
    lines = [_line("revision_queue_depth", labels, load.waiting)]
    for kind in ("revision_request", "revision_app_request"):
        well, failed = ({**labels, "response_code_class": code} for code in ("2xx", "5xx"))
        lines += [
            _line(f"{kind}_count", well, load.well),
            *([_line(f"{kind}_count", failed, load.failed)] if load.failed else []),
            *_histogram(f"{kind}_latencies", well, load, unit=1000),
        ]
    return _page(lines)


def kserve_page(load: Load) -> str:
    """A Python model server behind a queue proxy that joins both pages."""
    labels = {"model_name": MODEL}
    return knative_page(load, otel=False) + _page(
        [
            *_histogram("request_preprocess_seconds", labels, load, share=0.5),
            *_histogram("request_predict_seconds", labels, load),
            _line("request_predict_seconds_count", labels, load.well),
        ]
    )


def torchserve_page(load: Load) -> str:
    """TorchServe in its Prometheus mode: a comma ends its labels, a counter begins with its first event."""
    host = {"Level": "Host", "Hostname": "h1"}
    own = {"model_name": MODEL, "model_version": "1.0", "hostname": "h1"}
    lines = [
        *([_line("Requests2XX", host, load.well)] if load.well else []),
        *([_line("Requests5XX", host, load.failed)] if load.failed else []),
        _line("QueueTime", host, 7.0),
        _line("ts_inference_requests_total", own, load.well),
        _line("ts_inference_latency_microseconds", own, load.busy_s * 1e6),
        _line("ts_queue_latency_microseconds", own, load.busy_s * 0.5e6),
    ]
    return _page(lines).replace('"}', '",}')


PAGES: dict[str, Callable[[Load], str]] = {
    "vllm": vllm_page,
    "sglang": sglang_page,
    "tgi": tgi_page,
    "triton": triton_page,
    "ray-serve": ray_serve_page,
    "knative": knative_page,
    "kserve": kserve_page,
    "torchserve": torchserve_page,
}
"""The page of each stack, as its newest version shows it."""


def _histogram(
    name: str, labels: dict[str, str], load: Load, *, unit: float = 1, share: float = 1
) -> list[str]:
    """The buckets of latencies, each a share of the request's; `unit` is how many of it a second has."""
    lines: list[str] = []
    for bound_s in BOUNDS_S:
        count = sum(count for latency_s, count in load.latencies if share * latency_s <= bound_s)
        end = "+Inf" if bound_s == float("inf") else f"{bound_s * unit:g}"
        lines.append(_line(f"{name}_bucket", {**labels, "le": end}, count))
    return lines


def _line(name: str, labels: dict[str, str], value: float) -> str:
    return f"{name}{_braces(labels)} {value}"


def _braces(labels: dict[str, str]) -> str:
    text = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{{{text}}}" if text else ""


def _page(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
