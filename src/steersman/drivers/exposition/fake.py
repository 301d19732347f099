"""An exporter in a box: it serves a page that tests and trials set, over real HTTP, and can misbehave."""

from __future__ import annotations

import gzip

from steersman.drivers.web.fake import FakeSystem, Request, Response, WebFake
from steersman.kernel.ids import Rng

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class FakeExporter(FakeSystem):
    """Serves `page` at /metrics. `openmetrics` says in which format it claims to be; `authorization` is
    demanded where it is set. `web` has the faults."""

    def __init__(self, page: str = "", *, openmetrics: bool = False, authorization: str = "") -> None:
        self.page = page
        self.openmetrics = openmetrics
        self.authorization = authorization
        self.web = WebFake(self._answer)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"{self.web.url}/metrics"

    async def _answer(self, request: Request) -> Response:
        if request.path.partition("?")[0] != "/metrics":
            return Response(b"not found", 404)
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return Response(b"who are you?", 401)
        body = self.page.encode("utf-8", "surrogateescape")
        kind = OPENMETRICS if self.openmetrics else TEXT
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(gzip.compress(body, 1), 200, kind, {"Content-Encoding": "gzip"})
        return Response(body, 200, kind)


def dcgm_page(rng: Rng, *, host: str = "gpu-0001", gpus: int = 8, pod: str = "run-1") -> str:
    """A page as dcgm-exporter prints it: a few of its metrics for each GPU, one of them a blank."""
    ranges = {
        "DCGM_FI_DEV_GPU_UTIL": (0, 100),
        "DCGM_FI_DEV_GPU_TEMP": (30, 85),
        "DCGM_FI_DEV_POWER_USAGE": (70, 700),
        "DCGM_FI_DEV_FB_USED": (1_000, 40_000),
        "DCGM_FI_DEV_FB_FREE": (1_000, 40_000),
        "DCGM_FI_DEV_FB_RESERVED": (600, 600),
        "DCGM_FI_DEV_XID_ERRORS": (0, 0),
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": (0, 0),
    }
    lines: list[str] = []
    for name, (low, high) in ranges.items():
        lines += [f"# HELP {name} {name.lower()}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(host, gpu, pod)} {round(rng.uniform(low, high))}" for gpu in range(gpus)]
    lines += [f"DCGM_FI_DEV_MEMORY_TEMP{_labels(host, gpu, pod)} 9223372036854775794" for gpu in range(gpus)]
    return "\n".join(lines) + "\n"


def _labels(host: str, gpu: int, pod: str) -> str:
    return (
        f'{{gpu="{gpu}",UUID="GPU-{host}-{gpu}",pci_bus_id="00000000:{27 + gpu:02X}:00.0",'
        f'device="nvidia{gpu}",modelName="NVIDIA H100 80GB HBM3",hostname="{host}",'
        f'container="c",namespace="ns",pod="{pod}"}}'
    )
