"""The client of an MLflow server: its searches, page by page, within one look's time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from steersman.drivers.api import DriverContext, SourceError
from steersman.drivers.mlflow.options import MlflowOptions
from steersman.drivers.mlflow.shapes import (
    Experiment,
    ExperimentPage,
    Model,
    ModelPage,
    OneRun,
    Problem,
    Run,
    RunPage,
    Version,
    VersionPage,
)
from steersman.drivers.web.client import Answer
from steersman.drivers.web.look import Look

P = TypeVar("P", ExperimentPage, RunPage, ModelPage, VersionPage)

API = "/api/2.0/mlflow"
RUNS_PAGE = 500
"""Runs asked for at once: with some hundred metrics each that is a few megabytes."""
NAMES_PAGE = 1_000
"""Experiments, models or versions asked for at once; servers allow more, some managed ones just this."""
EXPERIMENTS_MAX = 10_000
EXPERIMENTS_PER_SEARCH = 500
"""Experiments that one search of runs names: each is a parameter of the server's SQL statement."""
PAGES_MAX = 100
"""Pages of one search: a server that goes on naming a next page is not followed for ever."""

_CODE = re.compile(r"^[A-Z_]{1,64}$")


class Found(Struct):
    """What a search gave. `whole` is whether that is all there is: no page is left, no item was odd."""

    items: list[Any]
    whole: bool = True


class MlflowClient:
    """Reads one server. Every call raises `SourceError`."""

    def __init__(self, options: MlflowOptions, context: DriverContext) -> None:
        self._web = options.open_client(context.clock)
        self.place = options.place

    async def experiments(self, look: Look) -> Found:
        """Experiments that are not deleted, the newest first; at most `EXPERIMENTS_MAX`."""
        body = {"max_results": NAMES_PAGE, "view_type": "ACTIVE_ONLY"}
        return await self._search(
            look,
            lambda token: self._post(look, "/experiments/search", ExperimentPage, body, token),
            lambda page: page.experiments,
            EXPERIMENTS_MAX,
            (Experiment, "an experiment"),
        )

    async def runs(
        self, look: Look, experiments: Sequence[str], condition: str, limit: int, *, deleted: bool = False
    ) -> Found:
        """Runs of these experiments for which `condition` holds, the newest first; at most `limit`."""
        found = Found([])
        for start in range(0, len(experiments), EXPERIMENTS_PER_SEARCH):
            body: dict[str, Any] = {
                "experiment_ids": list(experiments[start : start + EXPERIMENTS_PER_SEARCH]),
                "filter": condition,
                "run_view_type": "DELETED_ONLY" if deleted else "ACTIVE_ONLY",
                "order_by": ["attributes.start_time DESC"],
            }
            left = limit - len(found.items)
            if left <= 0:
                return Found(found.items, whole=False)
            some = await self._runs_of(look, body, left)
            found.items += some.items
            found.whole = found.whole and some.whole
        return found

    async def _runs_of(self, look: Look, body: dict[str, Any], limit: int) -> Found:
        asked = {**body, "max_results": min(RUNS_PAGE, limit)}
        return await self._search(
            look,
            lambda token: self._post(look, "/runs/search", RunPage, asked, token),
            lambda page: page.runs,
            limit,
            (Run, "a run"),
        )

    async def run(self, look: Look, run_id: str) -> list[Run] | None:
        """One run; none where it could not be read. None where the server has none of that id."""
        path = f"{API}/runs/get"
        answer = await self._web.get(path, timeout_s=look.left_s(), params={"run_id": run_id})
        if answer.status == 404 and _code_of(answer) == "RESOURCE_DOES_NOT_EXIST":
            return None
        one = await look.read(_good(answer), OneRun)
        return await look.items([one.run], Run, "a run")

    async def models(self, look: Look, limit: int) -> Found:
        """Registered models with their aliases; at most `limit`."""
        return await self._search(
            look,
            lambda token: self._get(look, "/registered-models/search", ModelPage, {}, token),
            lambda page: page.registered_models,
            limit,
            (Model, "a registered model"),
        )

    async def versions(self, look: Look, limit: int) -> Found:
        """Versions of all models, those changed last first; at most `limit`."""
        params = {"order_by": "last_updated_timestamp DESC"}
        return await self._search(
            look,
            lambda token: self._get(look, "/model-versions/search", VersionPage, params, token),
            lambda page: page.model_versions,
            limit,
            (Version, "a model version"),
        )

    async def close(self) -> None:
        """Close its connections. Repeating it does nothing."""
        await self._web.close()

    # ---- inside

    async def _search(
        self,
        look: Look,
        ask: Callable[[str], Any],
        items_of: Callable[[Any], list[Raw]],
        limit: int,
        shape: tuple[type[Struct], str],
    ) -> Found:
        """All pages up to `limit` items. Pages are counted by offset on the server: what is begun or ended
        meanwhile may move an item over a page's edge, so one may come twice or not at all."""
        found = Found([])
        token = ""
        for _ in range(PAGES_MAX):
            page = await ask(token)
            raw = items_of(page)
            left = limit - len(found.items)
            items = await look.items(raw[:left], *shape)
            found.items += items
            found.whole = found.whole and len(items) == len(raw[:left])
            before, token = token, page.next_page_token or ""
            if not token and len(raw) <= left:
                return found
            if len(raw) >= left or token == before:
                break
        found.whole = False
        return found

    async def _post(self, look: Look, path: str, shape: type[P], body: Mapping[str, Any], token: str) -> P:
        whole = {**body, "page_token": token} if token else body
        answer = await self._web.ask(
            "POST",
            API + path,
            timeout_s=look.left_s(),
            headers={"Content-Type": "application/json"},
            body=msgspec.json.encode(whole),
        )
        return await look.read(_good(answer), shape)

    async def _get(self, look: Look, path: str, shape: type[P], params: Mapping[str, str], token: str) -> P:
        whole = {"max_results": str(NAMES_PAGE), **params, **({"page_token": token} if token else {})}
        answer = await self._web.get(API + path, timeout_s=look.left_s(), params=whole)
        return await look.read(_good(answer), shape)


def _good(answer: Answer) -> Answer:
    """The answer, or `SourceError` in MLflow's own word for what is wrong."""
    if answer.status == 200:
        return answer
    hints = {
        401: "it wants other credentials (username and password, or token)",
        403: "it does not let us read that, or does not serve the host name in our url",
        404: "there is no MLflow at this url, or one without this part",
    }
    code = _code_of(answer)
    why = "; ".join(part for part in (code, hints.get(answer.status, "")) if part)
    raise SourceError(
        f"{answer.place} answered status {answer.status}; expected 200" + (f" ({why})" if why else "")
    )


def _code_of(answer: Answer) -> str:
    """MLflow's code of an error; "" where it has none. Its message may repeat what was asked, so it is not
    shown."""
    try:
        code = msgspec.json.decode(answer.body, type=Problem).error_code
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return code if _CODE.match(code) else ""
