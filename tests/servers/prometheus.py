"""A real Prometheus and a real node exporter, as Debian has them (`scripts/install-servers`).

async with running_prometheus(real_program("prometheus"), tmp_path, {"node": [target]}) as server:
    ... server.url
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from servers.program import Program, free_ports

SCRAPE_INTERVAL_S = 1
READY_TIMEOUT_S = 20.0
_TURN_S = 0.05


class PrometheusServer:
    """One Prometheus that scrapes each second. `jobs` are targets (`host:port`) by scrape job, or whole
    scrape configurations; `options` are more arguments, `rules` the text of a file of recording rules, `user`
    the name and password that its web configuration wants; `ready` is False where only a certificate of ours
    could ask it whether it is."""

    def __init__(
        self,
        path: str,
        folder: Path,
        jobs: Mapping[str, Sequence[str] | dict[str, Any]],
        *,
        options: Sequence[str] = (),
        rules: str = "",
        user: tuple[str, str] | None = None,
        ready: bool = True,
    ) -> None:
        (self.port,) = free_ports(1)
        self._headers = {"Authorization": aiohttp.encode_basic_auth(*user)} if user is not None else {}
        self._ready = ready
        self._folder = folder / f"prometheus-{self.port}"
        self._folder.mkdir()
        scrapes: list[dict[str, Any]] = []
        for name, job in jobs.items():
            own = job if isinstance(job, dict) else {"static_configs": [{"targets": list(job)}]}
            scrapes.append({"job_name": name, **own})
        every = f"{SCRAPE_INTERVAL_S}s"
        config: dict[str, Any] = {
            "global": {"scrape_interval": every, "evaluation_interval": every, "scrape_timeout": every},
            "scrape_configs": scrapes,
        }
        if rules:
            (self._folder / "rules.yml").write_text(rules)
            config["rule_files"] = ["rules.yml"]
        (self._folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        argv = [
            path,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            *options,
        ]
        self.program = Program(argv, self.port, self._folder / "log")

    @property
    def url(self) -> str:
        """The base of its API."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        await self.program.start()
        if not self._ready:
            return
        async with aiohttp.ClientSession(headers=self._headers) as session:
            for _ in range(round(READY_TIMEOUT_S / _TURN_S)):
                try:
                    async with session.get(f"{self.url}/-/ready") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(_TURN_S)
        await self.program.stop()
        raise AssertionError("prometheus is not ready")

    async def query(self, text: str) -> list[Any]:
        """The result of an instant query, as it comes."""
        async with (
            aiohttp.ClientSession(headers=self._headers) as session,
            session.get(f"{self.url}/api/v1/query", params={"query": text}) as answer,
        ):
            return (await answer.json())["data"]["result"]

    async def wait_for(self, text: str, timeout_s: float = READY_TIMEOUT_S) -> list[Any]:
        """The result of a query as soon as there is one."""
        async with asyncio.timeout(timeout_s):
            while not (found := await self.query(text)):
                await asyncio.sleep(0.1)
        return found


@asynccontextmanager
async def running_prometheus(
    path: str, folder: Path, jobs: Mapping[str, Sequence[str] | dict[str, Any]], **options: Any
) -> AsyncIterator[PrometheusServer]:
    """A started Prometheus; it ends with the block."""
    server = PrometheusServer(path, folder, jobs, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.program.stop()


def node_exporter(path: str, folder: Path) -> Program:
    """A node exporter on a free port, not yet started."""
    (port,) = free_ports(1)
    argv = [path, f"--web.listen-address=127.0.0.1:{port}"]
    return Program(argv, port, folder / f"node-exporter-{port}.log")
