"""slurmrestd in a box, for tests and trials: any version from v0.0.38 to v0.0.45, each in its own shapes.

It has the versions it is given (a real one has three or four), wants a user and a token where it is given
them, answers `update_time` as slurmrestd does, takes updates of nodes (from v0.0.39 on), makes reservations
(from v0.0.43 on) and deletes them (v0.0.40), and cancels jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct, field

from steersman.drivers.slurm.options import API_VERSIONS
from steersman.drivers.web.fake import Request, Response, WebFake
from steersman.kernel.clock import Clock, SystemClock

NO_CHANGE_ERROR = {
    "description": "No change in data",
    "error_number": 1900,
    "error": "No change",
    "source": "fake",
}
RELEASES = {
    "v0.0.38": "22.05.8", "v0.0.39": "23.02.7", "v0.0.40": "23.11.10", "v0.0.41": "24.05.4",
    "v0.0.42": "24.11.5",
    "v0.0.43": "25.05.3", "v0.0.44": "25.11.1", "v0.0.45": "26.05.0",
}  # fmt: skip


class FakeNode(Struct, kw_only=True):
    """One node. `load` is the load average; its `hostname` is its name where none is given."""

    name: str
    hostname: str = ""
    state: list[str] = field(default_factory=lambda: ["IDLE"])
    reason: str = ""
    reason_by: str = ""
    reason_at: int = 0
    cpus: int = 64
    cpus_allocated: int = 0
    memory_mb: int = 512_000
    load: float | None = 1.5
    gres: str = "gpu:h100:8(S:0-1)"
    gres_used: str = "gpu:h100:0(IDX:N/A)"


class FakeJob(Struct, kw_only=True):
    """One job. Times are seconds before now; None is "not yet"."""

    job_id: int
    state: list[str] = field(default_factory=lambda: ["RUNNING"])
    nodes: str = ""
    partition: str = "main"
    account: str = "physics"
    gpus: int = 0
    submitted_ago_s: int = 100
    started_ago_s: int | None = 60
    ended_ago_s: int | None = None
    exit_code: int = 0
    signal: int = 0
    array_job_id: int = 0
    array_tasks: str = ""
    time_limit_minutes: int | None = 90
    admin_comment: str = ""


class FakeSlurm:
    """A cluster behind slurmrestd. Change `nodes`, `jobs` or `partitions` and call `changed`."""

    def __init__(
        self,
        versions: tuple[str, ...] = API_VERSIONS[:4],
        *,
        user: str = "",
        token: str = "",
        openapi: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self.versions = versions
        self.web = WebFake(self._answer)
        self.nodes = {name: FakeNode(name=name) for name in ("n1", "n2", "n3")}
        self.jobs = {7: FakeJob(job_id=7, nodes="n1", gpus=2)}
        self.partitions: dict[str, str] = {"main": "UP"}
        self.reservations: dict[str, dict[str, Any]] = {}
        self.skew_s = 0
        self._user, self._token, self._openapi = user, token, openapi
        self._clock = clock or SystemClock()
        self.last_update = self.now

    @property
    def now(self) -> int:
        """The time on the cluster's clock."""
        return int(self._clock.now().timestamp()) + self.skew_s

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.web.url

    async def start(self) -> FakeSlurm:
        """Listen on a free port of loopback; returns itself."""
        await self.web.start()
        return self

    async def stop(self) -> None:
        """Listen no more. Repeating it does nothing."""
        await self.web.stop()

    def changed(self) -> None:
        """Say that the lists are others than before."""
        self.last_update = max(self.now, self.last_update + 1)

    async def _answer(self, request: Request) -> Response:
        parts = urlsplit(request.path)
        if self._token and not self._allowed(request.headers):
            return Response(b"Authentication failure", 401)
        words = parts.path.strip("/").split("/")
        if words == ["openapi", "v3"] and self._openapi:
            return _json({"paths": {f"/slurm/{version}/nodes/": {"get": {}} for version in self.versions}})
        if len(words) < 3 or words[0] != "slurm" or words[1] not in self.versions:
            return Response(b"Unable find requested URL", 404)
        version, noun, name = words[1], words[2], words[3] if len(words) > 3 else ""
        since = int(parse_qs(parts.query).get("update_time", ["0"])[0])
        change = self._change(request, version, noun, name)
        if change is not None:
            return change
        answers = {
            "ping": self._ping,
            "diag": self._diag,
            "nodes": self._nodes,
            "node": self._nodes,
            "jobs": self._jobs,
            "job": self._jobs,
            "partitions": self._partitions,
            "reservations": self._reservations,
        }
        if request.method != "GET" or noun not in answers:
            return Response(b"Unable find requested URL", 404)
        body = self._frame(version)
        if since and noun in ("nodes", "jobs", "partitions", "reservations") and since >= self.last_update:
            return _json(self._no_change(version, noun, body))
        body |= answers[noun](version)
        if name:
            key = "name" if noun == "node" else "job_id"
            for listed in ("nodes", "jobs"):
                body[listed] = [one for one in body.get(listed, ()) if str(one[key]) == name]
            if not body[f"{noun}s"]:
                return self._error(version, 2018 if noun == "node" else 2017, "Invalid name or id specified")
        if version >= "v0.0.40" and noun not in ("ping", "diag"):
            body["last_update"] = _number(version, self.last_update)
        return _json(body)

    def _change(self, request: Request, version: str, noun: str, name: str) -> Response | None:
        """A change that this version can make; None where it is none."""
        if request.method == "POST" and noun == "node" and version >= "v0.0.39":
            return self._update(version, name, msgspec.json.decode(request.body))
        if request.method == "DELETE" and noun == "job":
            return self._cancel(version, name)
        if request.method == "POST" and noun == "reservation" and version >= "v0.0.43":
            return self._reserve(version, msgspec.json.decode(request.body))
        if request.method == "DELETE" and noun == "reservation" and version >= "v0.0.40":
            return self._free(version, name)
        return (
            Response(b"Requested REST method is not defined at URL", 405) if request.method != "GET" else None
        )

    def _no_change(self, version: str, noun: str, body: dict[str, Any]) -> dict[str, Any]:
        """An error in older versions, a warning and an empty list in newer ones."""
        if version < "v0.0.40":
            return body | {noun: [], "errors": [NO_CHANGE_ERROR]}
        text = f"No {noun[:-1]} changes since update_time[{self.last_update}]"
        return body | {noun: [], "warnings": [{"description": text, "source": "fake"}]}

    def _allowed(self, headers: Mapping[str, str]) -> bool:
        if headers.get("authorization") == f"Bearer {self._token}":
            return True
        named = headers.get("x-slurm-user-name", "") == self._user
        return named and headers.get("x-slurm-user-token") == self._token

    def _frame(self, version: str) -> dict[str, Any]:
        slurm = {"release": RELEASES.get(version, "26.11.0")}
        meta = {
            "plugin": {"data_parser": f"data_parser/{version}"},
            "Slurm" if version < "v0.0.40" else "slurm": slurm,
        }
        return {"meta": meta, "errors": [], **({} if version < "v0.0.39" else {"warnings": []})}

    def _ping(self, version: str) -> dict[str, Any]:
        one: dict[str, Any] = {"hostname": "ctl", "mode": "primary", "ping": "UP", "status": 0}
        if version >= "v0.0.39":
            one = {"hostname": "ctl", "pinged": "UP", "latency": 1500, "mode": "primary"}
        if version >= "v0.0.42":
            one |= {"responding": True, "primary": True}
        if version >= "v0.0.45":
            one = {"hostname": "ctl", "responding": True, "latency": 1500, "primary": True, "status": "UP"}
        return {"pings": [one]}

    def _diag(self, _version: str) -> dict[str, Any]:
        figures = {"server_thread_count": 3, "agent_queue_size": 0, "dbd_agent_queue_size": 2}
        return {"statistics": figures | {"schedule_cycle_mean": 800}}

    def _nodes(self, version: str) -> dict[str, Any]:
        return {"nodes": [_node(version, node, self.now) for node in self.nodes.values()]}

    def _jobs(self, version: str) -> dict[str, Any]:
        return {"jobs": [_job(version, job, self.now) for job in self.jobs.values()]}

    def _partitions(self, version: str) -> dict[str, Any]:
        hosts, count = ",".join(self.nodes), len(self.nodes)
        tres = (
            f"cpu={64 * count},mem={500 * count}G,node={count},gres/gpu={8 * count},gres/gpu:h100={8 * count}"
        )
        if version < "v0.0.39":
            common: dict[str, Any] = {
                "nodes": hosts,
                "total_nodes": count,
                "total_cpus": 64 * count,
                "tres": tres,
            }
            return {"partitions": [
                {"name": name, "state": state, "max_time_limit": -1, **common}
                for name, state in self.partitions.items()
            ]}  # fmt: skip
        return {"partitions": [
            {
                "name": name,
                "nodes": {"configured": hosts, "total": count, "allowed_allocation": ""},
                "cpus": {"total": 64 * count},
                "tres": {"configured": tres},
                "maximums": {"time": {"set": False, "infinite": True, "number": 0}},
                "partition": {"state": [state]},
            }
            for name, state in self.partitions.items()
        ]}  # fmt: skip

    def _reservations(self, version: str) -> dict[str, Any]:
        return {"reservations": [
            {
                "name": name,
                "node_list": said["nodes"],
                "flags": said["flags"],
                "start_time": _number(version, self.now + said["starts_in_s"]),
                "end_time": _number(version, self.now + said["ends_in_s"]),
                "users": "root",
            }
            for name, said in self.reservations.items()
        ]}  # fmt: skip

    def _update(self, version: str, name: str, said: dict[str, Any]) -> Response:
        node = self.nodes.get(name)
        if node is None:
            return self._error(version, 2018, "Invalid node name specified")
        states: Any = said.get("state", [])
        for word in [states] if isinstance(states, str) else states:
            if word == "DRAIN":
                node.state = [*(one for one in node.state if one != "DRAIN"), "DRAIN"]
            elif word in ("RESUME", "UNDRAIN"):
                node.state = [one for one in node.state if one != "DRAIN"]
                node.state = ["IDLE" if one == "DOWN" else one for one in node.state]
                node.reason = node.reason_by = ""
        if reason := said.get("reason"):
            node.reason, node.reason_by, node.reason_at = reason, self._user or "root", self.now
        self.changed()
        return _json(self._frame(version))

    def _cancel(self, version: str, name: str) -> Response:
        job = self.jobs.get(int(name))
        if job is None:
            return self._error(version, 2017, "Invalid job id specified")
        job.state, job.ended_ago_s = ["CANCELLED"], 0
        self.changed()
        return _json(self._frame(version))

    def _reserve(self, version: str, said: dict[str, Any]) -> Response:
        if not said.get("users") and not said.get("accounts"):
            return self._error(version, 2053, "Users or accounts must be specified")
        if said["name"] in self.reservations:
            return self._error(version, 2062, "Reservation name already exists")
        if any(node not in self.nodes for node in said["node_list"]):
            return self._error(version, 2018, "Invalid node name specified")
        starts_in_s = said["start_time"]["number"] - self.now
        self.reservations[said["name"]] = {
            "nodes": ",".join(said["node_list"]),
            "flags": said["flags"],
            "starts_in_s": starts_in_s,
            "ends_in_s": starts_in_s + 60 * said["duration"]["number"],
        }
        self.changed()
        return _json(self._frame(version))

    def _free(self, version: str, name: str) -> Response:
        if self.reservations.pop(name, None) is None:
            return self._error(version, 2053, "Requested reservation is invalid")
        self.changed()
        return _json(self._frame(version))

    def _error(self, version: str, number: int, text: str) -> Response:
        """An error as this version tells it."""
        key = "errno" if version < "v0.0.39" else "error_number"
        return _json(self._frame(version) | {"errors": [{key: number, "error": text}]}, 500)


def _number(version: str, value: int | None) -> Any:
    """A number as a version writes it; None where there is none."""
    if version < "v0.0.39":
        return 0 if value is None else value
    return {"set": value is not None, "infinite": False, "number": value or 0}


def _limit(version: str, minutes: int | None) -> Any:
    """A limit; None is that there is none, which is another thing than no number."""
    if version < "v0.0.39":
        return -1 if minutes is None else minutes
    return {"set": minutes is not None, "infinite": minutes is None, "number": minutes or 0}


def _node(version: str, node: FakeNode, now: int) -> dict[str, Any]:
    load = round(node.load * 100) if node.load is not None else None
    said: dict[str, Any] = {
        "name": node.name, "hostname": node.hostname or node.name, "address": "192.0.2.7",
        "reason": node.reason,
        "reason_set_by_user": node.reason_by, "reason_changed_at": _number(version, node.reason_at or None),
        "cpus": node.cpus, "alloc_cpus": node.cpus_allocated, "real_memory": node.memory_mb,
        "alloc_memory": 1000,
        "gres": node.gres, "gres_used": node.gres_used, "gres_drained": "N/A",
        "partitions": ["main"],
        "boot_time": _number(version, now - 86_400), "operating_system": "Linux 6.1",
    }  # fmt: skip
    if version < "v0.0.39":
        said |= {"state": node.state[0].lower(), "state_flags": node.state[1:], "free_memory": 400_000}
        said |= {"slurmd_version": "22.05.8", "cpu_load": 4_294_967_294 if load is None else load}
    else:
        said |= {"state": node.state, "free_mem": _number(version, 400_000)}
        said |= {
            "cpu_load": 4_294_967_294 if load is None else load,
            "version": RELEASES.get(version, "26.11.0"),
        }
    if version == "v0.0.39":  # the first data parser still had flags of their own
        said |= {"state": node.state[0].lower(), "state_flags": [word.lower() for word in node.state[1:]]}
    return said


def _job(version: str, job: FakeJob, now: int) -> dict[str, Any]:
    started = now - job.started_ago_s if job.started_ago_s is not None else None
    ended = now - job.ended_ago_s if job.ended_ago_s is not None else None
    code: Any = job.exit_code << 8 | job.signal
    if version >= "v0.0.39":
        code = {"status": ["SUCCESS"], "return_code": _number(version, job.exit_code)}
        code["signal"] = {"id": _number(version, job.signal or None), "name": ""}
    hosts = [host for host in job.nodes.split(",") if host]
    resources: Any = {
        "nodes": job.nodes,
        "allocated_cores": 4,
        "allocated_nodes": [{"nodename": h} for h in hosts],
    }
    if version >= "v0.0.41":
        allocation = [{"name": host, "cpus": {"count": 4}} for host in hosts]
        resources = {"nodes": {"count": len(hosts), "list": job.nodes, "allocation": allocation}, "cpus": 4}
    gpus = f",gres/gpu={job.gpus},gres/gpu:h100={job.gpus}" if job.gpus else ""
    tres = f"cpu=4,mem=1000M,node={max(1, len(hosts))},billing=4{gpus}"
    return {
        "job_id": job.job_id,
        "job_state": job.state if version >= "v0.0.40" else job.state[0],
        "state_reason": "None",
        "name": "train",
        "user_name": "ada",
        "account": job.account,
        "partition": job.partition,
        "qos": "normal",
        "priority": _number(version, 1000),
        "submit_time": _number(version, now - job.submitted_ago_s),
        "start_time": _number(version, started),
        "end_time": _number(version, ended),
        "time_limit": _limit(version, job.time_limit_minutes),
        "node_count": _number(version, max(1, len(hosts))),
        "nodes": job.nodes,
        "job_resources": resources if hosts else {},
        "gres_detail": [f"gpu:h100:{job.gpus}(IDX:0-{job.gpus - 1})"] if job.gpus and hosts else [],
        "tres_alloc_str": tres if hosts else "",
        "tres_req_str": tres,
        "exit_code": code,
        "restart_cnt": 0,
        "array_job_id": _number(version, job.array_job_id),
        "array_task_id": _number(version, None),
        "array_task_string": job.array_tasks,
        "het_job_id": _number(version, 0),
        "admin_comment": job.admin_comment,
    }


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, "application/json")
