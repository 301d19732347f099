"""A real Ray Serve on loopback, on the CPU: an application that answers, fails, or takes its time."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

STARTED_WITHIN_S = 110.0
"""Nine processes of a hundred megabytes each; twelve seconds on a free machine, more where many work."""

PROGRAM = '''
import asyncio, logging, sys
import ray
from ray import serve

metrics_port, http_port, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def stay_on_loopback():
    """A replica's own gRPC server would listen everywhere."""
    import grpc.aio._server as server

    bind = server.Server.add_insecure_port
    server.Server.add_insecure_port = lambda self, address: bind(self, address.replace("[::]", "127.0.0.1"))


ray.init(
    num_cpus=1,
    include_dashboard=False,
    object_store_memory=80 * 1024 * 1024,
    log_to_driver=False,
    logging_level=logging.ERROR,
    _metrics_export_port=metrics_port,
    _node_ip_address="127.0.0.1",
    _temp_dir=folder,
    _system_config={"metrics_report_interval_ms": 500},
    runtime_env={"worker_process_setup_hook": stay_on_loopback},
)


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0.1})
class Tiny:
    async def __call__(self, request):
        if request.query_params.get("fail"):
            raise RuntimeError("asked to fail")
        await asyncio.sleep(float(request.query_params.get("s", "0.02")))
        return "ok"


serve.start(http_options={"host": "127.0.0.1", "port": http_port})
serve.run(Tiny.bind(), name="demo", route_prefix="/")
print("up", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
'''


class RayServer:
    """One node with one deployment, `demo/Tiny`. Its figures reach the page within a second."""

    def __init__(self, program: str, folder: Path) -> None:
        self._python = Path(program).parent / "python"
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._family: list[psutil.Process] = []
        self.metrics_port, self.http_port = _free_port(), _free_port()

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def url(self, query: str = "") -> str:
        return f"http://127.0.0.1:{self.http_port}/{query}"

    def start(self) -> None:
        """Start it, and wait until the application answers."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        # The switch for laptops keeps each of Ray's servers on loopback, on any system.
        alone = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
        with (self._folder / "ray.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._python,
                    "-c",
                    PROGRAM,
                    str(self.metrics_port),
                    str(self.http_port),
                    str(self._folder / "r"),
                ],
                cwd=self._folder,
                env=kept | alone | {"HOME": str(self._folder)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        until = time.monotonic() + STARTED_WITHIN_S
        while time.monotonic() < until and self._process.poll() is None:
            readable, _, _ = select.select([self._process.stdout], [], [], 0.5)
            if readable and self._process.stdout.readline().strip() == "up":
                self._family = psutil.Process(self._process.pid).children(recursive=True)
                return
        self.stop()
        raise AssertionError((self._folder / "ray.log").read_text()[-3000:])

    def stop(self) -> None:
        """End it and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        self.mend()
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
        for left in self._family:
            if left.is_running():
                left.kill()
        psutil.wait_procs(self._family, timeout=10)

    def hang(self) -> None:
        """Stop the process that shows the page."""
        for one in self._family:
            if self._shows_the_page(one):
                one.send_signal(signal.SIGSTOP)
                return
        raise AssertionError("nobody listens at the metrics port")

    def mend(self) -> None:
        for one in self._family:
            if one.is_running() and one.status() == psutil.STATUS_STOPPED:
                one.send_signal(signal.SIGCONT)

    def open_to_others(self) -> list[str]:
        """What it listens at beyond loopback."""
        found: list[str] = []
        for one in self._family:
            for connection in one.net_connections("inet") if one.is_running() else []:
                if connection.status == psutil.CONN_LISTEN and connection.laddr.ip not in (
                    "127.0.0.1",
                    "::1",
                    "::ffff:127.0.0.1",
                ):
                    found.append(f"{one.name()} {connection.laddr}")
        return found

    def _shows_the_page(self, one: psutil.Process) -> bool:
        if not one.is_running():
            return False
        return any(
            c.status == psutil.CONN_LISTEN and c.laddr.port == self.metrics_port
            for c in one.net_connections("inet")
        )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
