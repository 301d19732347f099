"""An MLflow server in a box: the searches of its REST API over real HTTP, with a database of dicts.

It pages by offset, leaves empty lists out, keeps an infinity as the largest number there is, and names its
errors by code, as the real one does. `web` has the faults.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from steersman.drivers.web.fake import FakeSystem, Request, Response, WebFake
from steersman.kernel.clock import Clock
from steersman.kernel.ids import Rng

API = "/api/2.0/mlflow/"
LARGEST = 1.7976931348623157e308
_CONDITION = re.compile(r"^attributes\.(\w+) (=|!=|>=) '?([^']*)'?$")

Json = dict[str, Any]


class FakeMlflow(FakeSystem):
    """Serves `experiments`, `runs`, `models` and `versions`: dicts of MLflow's own shapes, by id.

    `authorization` is demanded where it is set. `ahead_s`: how far its clients' clocks are ahead.
    `registry`: whether it has one.
    """

    def __init__(self, clock: Clock, rng: Rng, *, authorization: str = "") -> None:
        self._clock = clock
        self._rng = rng
        self.authorization = authorization
        self.ahead_s = 0.0
        self.registry = True
        self.experiments: dict[str, Json] = {}
        self.runs: dict[str, Json] = {}
        self.models: dict[str, Json] = {}
        self.versions: dict[str, Json] = {}
        self.web = WebFake(self._answer)

    # ---- what its users do

    def add_experiment(self, name: str) -> str:
        """A new experiment; its id."""
        key = str(len(self.experiments) + 1)
        self.experiments[key] = {"experiment_id": key, "name": name, "lifecycle_stage": "active"}
        return key

    def add_run(self, experiment: str, *, ago_s: float = 0.0, **tags: str) -> str:
        """A run that started so long ago; its id."""
        key = f"{self._rng.getrandbits(128):032x}"
        info = {
            "run_id": key,
            "run_uuid": key,
            "experiment_id": experiment,
            "run_name": f"run-{len(self.runs)}",
            "user_id": "unknown",
            "status": "RUNNING",
            "start_time": self._ms(ago_s),
            "lifecycle_stage": "active",
        }
        pairs = [{"key": name, "value": value} for name, value in tags.items()]
        self.runs[key] = {"info": info, "data": {"metrics": [], "params": [], "tags": pairs}}
        return key

    def log_metric(self, run_id: str, name: str, value: float, *, ago_s: float = 0.0) -> None:
        """The latest value of a metric, as it is read back from a database."""
        kept: Any = "NaN" if value != value else max(-LARGEST, min(LARGEST, value))
        metrics = self.runs[run_id]["data"]["metrics"]
        metrics[:] = [metric for metric in metrics if metric["key"] != name]
        metrics.append({"key": name, "value": kept, "timestamp": self._ms(ago_s), "step": 0})

    def log_param(self, run_id: str, name: str, value: str) -> None:
        """A parameter."""
        self.runs[run_id]["data"]["params"].append({"key": name, "value": value})

    def end_run(self, run_id: str, status: str = "FINISHED", *, ago_s: float = 0.0) -> None:
        """A run's end."""
        self.runs[run_id]["info"] |= {"status": status, "end_time": self._ms(ago_s)}

    def resume_run(self, run_id: str) -> None:
        """A run that ended goes on, as `start_run(run_id=...)` does it."""
        self.runs[run_id]["info"]["status"] = "RUNNING"
        self.runs[run_id]["info"].pop("end_time", None)

    def delete_run(self, run_id: str) -> None:
        """Put a run into the bin."""
        self.runs[run_id]["info"]["lifecycle_stage"] = "deleted"

    def add_version(self, model: str, status: str = "READY", stage: str = "None", **more: Any) -> str:
        """A new version of a model; its number."""
        self.models.setdefault(model, {"name": model, "aliases": []})
        number = str(1 + sum(1 for version in self.versions.values() if version["name"] == model))
        self.versions[f"{model}/{number}"] = {
            "name": model,
            "version": number,
            "status": status,
            "current_stage": stage,
            "last_updated_timestamp": self._ms(0.0),
            "source": "s3://bucket/model",
            **more,
        }
        return number

    # ---- what is asked

    def _ms(self, ago_s: float) -> int:
        return int((self._clock.now().timestamp() + self.ahead_s - ago_s) * 1000)

    async def _answer(self, request: Request) -> Response:
        parts = urlsplit(request.path)
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return Response(b"You are not authenticated.", 401)
        asked: Json = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if request.body:
            asked |= msgspec.json.decode(request.body)
        routes: dict[tuple[str, str], Callable[[Json], Json]] = {
            ("POST", "experiments/search"): self._search_experiments,
            ("POST", "runs/search"): self._search_runs,
            ("GET", "runs/get"): self._get_run,
        }
        if self.registry:
            routes["GET", "registered-models/search"] = self._search_models
            routes["GET", "model-versions/search"] = self._search_versions
        route = routes.get((request.method, parts.path.removeprefix(API)))
        if route is None or not parts.path.startswith(API):
            return Response(b"<!doctype html><h1>Not Found</h1>", 404, "text/html; charset=utf-8")
        try:
            return _json(route(asked))
        except KeyError as missing:
            problem = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"{missing} not found"}
            return _json(problem, 404)
        except ValueError as error:
            return _json({"error_code": "INVALID_PARAMETER_VALUE", "message": str(error)}, 400)

    def _search_experiments(self, asked: Json) -> Json:
        active = [one for one in self.experiments.values() if one["lifecycle_stage"] == "active"]
        return _page("experiments", active[::-1], asked)

    def _search_runs(self, asked: Json) -> Json:
        wanted = {"ACTIVE_ONLY": ("active",), "DELETED_ONLY": ("deleted",)}
        stages = wanted.get(asked.get("run_view_type", "ACTIVE_ONLY"), ("active", "deleted"))
        holds = _conditions(asked.get("filter", ""))
        found = [
            run
            for run in self.runs.values()
            if run["info"]["experiment_id"] in asked["experiment_ids"]
            and run["info"]["lifecycle_stage"] in stages
            and holds(run["info"])
        ]
        found.sort(key=lambda run: run["info"].get("start_time") or 0, reverse=True)
        return _page("runs", found, asked)

    def _get_run(self, asked: Json) -> Json:
        return {"run": self.runs[asked["run_id"]]}

    def _search_models(self, asked: Json) -> Json:
        return _page("registered_models", list(self.models.values()), asked)

    def _search_versions(self, asked: Json) -> Json:
        newest = sorted(self.versions.values(), key=lambda one: one["last_updated_timestamp"], reverse=True)
        return _page("model_versions", newest, asked)


def _conditions(text: str) -> Callable[[Json], bool]:
    """A filter of the kinds that are used here. Raises ValueError for another, as the server does."""
    tests: list[tuple[str, str, str]] = []
    for part in text.split(" and ") if text else ():
        match = _CONDITION.match(part)
        if match is None:
            raise ValueError(f"Invalid clause(s) in filter string: {part!r}")
        tests.append((match[1], match[2], match[3]))

    def holds(info: Json) -> bool:
        for name, operator, wanted in tests:
            value = info.get(name)
            if operator == ">=":
                if value is None or int(value) < int(wanted):
                    return False
            elif (value == wanted) is (operator == "!="):
                return False
        return True

    return holds


def _page(name: str, items: list[Json], asked: Json) -> Json:
    size = int(asked.get("max_results", 100))
    if not 1 <= size <= 50_000:
        raise ValueError("Invalid value for parameter 'max_results'")
    start = 0
    if asked.get("page_token"):
        start = int(msgspec.json.decode(b64decode(asked["page_token"]))["offset"])
    page: Json = {name: items[start : start + size]} if items[start : start + size] else {}
    if start + size < len(items):
        page["next_page_token"] = b64encode(msgspec.json.encode({"offset": start + size})).decode()
    return page


def _json(answer: Json, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, "application/json")
