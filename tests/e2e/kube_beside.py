"""A Kubernetes cluster beside a test: the fake API server in a thread, with a kubelet that takes its time, a
controller that makes pods anew elsewhere, and a hand that kills who writes, in the middle of its writes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from steersman.drivers.kubernetes.fake import FakeApiServer, count_disruptions
from steersman.drivers.web.fake import Request, Response

START_TIMEOUT_S = 20.0
ENDING_S = 0.4
"""What a pod takes to end."""
TICK_S = 0.05
NAMESPACE = "ml"


class Write(NamedTuple):
    """A write by words of its method and path (`PATCH nodes/a`), held before it is `done`, or behind."""

    words: str
    done: bool


class KubeBeside:
    """The cluster. `victim` is the process to kill; `accepted` holds the pods whose eviction was granted, as
    often as it was."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        self.victim = 0
        self._wanted: list[Write] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(START_TIMEOUT_S)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._fake.url

    def stop(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(START_TIMEOUT_S)

    def kill_within(self, writes: Iterable[Write]) -> None:
        """Hold each of these writes when it comes, and kill the process once all are held: none of them gets
        an answer."""
        self._dead = asyncio.Event()
        self._wanted = list(writes)

    @property
    def missing(self) -> list[Write]:
        """The writes that did not come so far."""
        return list(self._wanted)

    def add_node(self, name: str, **spec: Any) -> None:
        """A node that is ready, as the person or program that makes it wants it."""
        status = {"conditions": [{"type": "Ready", "status": "True"}], "capacity": {"cpu": "8"}}
        self._in_loop(
            lambda: self._fake.create("nodes", {"metadata": {"name": name}, "spec": spec, "status": status})
        )

    def add_pod(self, name: str, node: str, app: str = "") -> None:
        """A pod that a controller would make anew."""
        self._in_loop(lambda: self._make_pod(name, node, app))

    def guard(self, app: str) -> None:
        """A budget: one pod of that app at a time may be away."""
        spec = {"selector": {"matchLabels": {"app": app}}, "maxUnavailable": 1}
        budget = {"metadata": {"name": app, "namespace": NAMESPACE}, "spec": spec}
        self._in_loop(lambda: self._fake.create("poddisruptionbudgets", budget, NAMESPACE))

    def cordon_as_a_person(self, name: str) -> None:
        """`kubectl cordon`."""

        def do() -> None:
            node = next(one for one in self._fake.all("nodes") if one["metadata"]["name"] == name)
            self._fake.change("nodes", node, manager="kubectl", spec={"unschedulable": True})

        self._in_loop(do)

    def node(self, name: str) -> dict[str, Any]:
        """The node as it is."""
        return self._in_loop(
            lambda: next(one for one in self._fake.all("nodes") if one["metadata"]["name"] == name)
        )

    def pods_on(self, node: str) -> list[str]:
        """The pods of a node."""
        return self._in_loop(
            lambda: sorted(
                one["metadata"]["name"] for one in self._fake.all("pods") if one["spec"]["nodeName"] == node
            )
        )

    # ---- in the thread

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._fake = fake = FakeApiServer(controllers=(count_disruptions,))
        self._pass_on = fake.web.answer
        fake.web.answer = self._answer
        await fake.start()
        fake.create("namespaces", {"metadata": {"name": NAMESPACE}, "status": {"phase": "Active"}})
        kubelet = asyncio.ensure_future(self._end_pods())
        self._ready.set()
        await self._over.wait()
        kubelet.cancel()
        await asyncio.wait({kubelet})
        await fake.stop()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        if rest:
            await asyncio.wait(rest, timeout=START_TIMEOUT_S)  # its connections, which are closed now

    async def _answer(self, request: Request) -> Response:
        text = f"{request.method} {request.path}"
        write = next((one for one in self._wanted if all(word in text for word in one.words.split())), None)
        if write is not None:
            self._wanted.remove(write)
            if not write.done:
                await self._hold()
        response = await self._pass_on(request)
        if "/eviction" in request.path and response.status == 201:
            self.accepted.append(json.loads(request.body)["metadata"]["name"])
        if write is not None:
            await self._hold()
        return response

    async def _hold(self) -> None:
        """Until who asked is dead."""
        if not self._wanted:
            os.kill(self.victim, signal.SIGKILL)
            self._dead.set()
        await self._dead.wait()
        raise ConnectionResetError("who asked is dead")

    async def _end_pods(self) -> None:
        """A pod that is told to go goes a moment later, and another one is made elsewhere."""
        since: dict[str, float] = {}
        while True:
            await asyncio.sleep(TICK_S)
            for pod in list(self._fake.all("pods")):
                meta = pod["metadata"]
                if not meta.get("deletionTimestamp"):
                    continue
                if time.monotonic() - since.setdefault(meta["uid"], time.monotonic()) < ENDING_S:
                    continue
                self._fake.remove("pods", pod)
                app = meta.get("labels", {}).get("app", "")
                self._make_pod(f"{meta['name']}-again", "spare", app)

    def _make_pod(self, name: str, node: str, app: str) -> None:
        owner = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": "web",
            "uid": "rs",
            "controller": True,
        }
        meta = {"name": name, "namespace": NAMESPACE, "ownerReferences": [owner], "labels": {"app": app}}
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        pod = {"metadata": meta, "spec": {"nodeName": node, "containers": []}, "status": status}
        self._fake.create("pods", pod, NAMESPACE)

    # ---- from outside

    def _in_loop(self, work: Callable[[], Any]) -> Any:
        async def do() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(START_TIMEOUT_S)
