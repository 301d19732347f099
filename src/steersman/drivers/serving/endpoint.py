"""An OpenAI-compatible server, as its list of models shows it. No model is asked anything: looks are free."""

from __future__ import annotations

from urllib.parse import urlsplit

from steersman.drivers.api import DriverContext, Observation
from steersman.drivers.serving.models import Model, read_models
from steersman.drivers.serving.options import ServingOptions
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fragment import SCOPE_LABEL, StateFragment

SOURCE_TYPE = "openai"
GET_SHARE = 0.8
"""Share of the source's time-out that the list may take; readiness has what is left of it."""


class ModelsReader:
    """Reads the list again and again; what it no longer names is gone."""

    def __init__(self, options: ServingOptions, context: DriverContext) -> None:
        self._context = context
        self._options = options
        self._service = options.service or options.instance
        self._path = _path(options.url)
        self._client = options.open_client(context.clock)
        self._labels = dict(options.labels)
        if context.scope:
            self._labels[SCOPE_LABEL] = context.scope
        self._known: set[str] | None = None

    async def read(self) -> Observation:
        """One look. Raises `SourceError`."""
        clock = self._context.clock
        at, started_s = clock.now(), clock.monotonic()
        answer = await self._client.get(self._path, timeout_s=self._context.timeout_s * GET_SHARE)
        took_s = clock.monotonic() - started_s
        found = read_models(answer.expect().body, answer.place)
        fields = {
            "up": True,
            "url": self._options.place,
            "probe_latency_ms": took_s * 1000,
            "models": len(found.models),
        }
        here = {**self._labels, "instance": self._options.instance}
        fragments = [
            StateFragment(
                SOURCE_TYPE, EntityType.SERVICE, self._service, at, fields, here, self._context.source
            )
        ]
        names: set[str] = set()
        for model in found.models:
            names.add(name := self._name(model))
            shape = {"model_name": model.id, "revision_state": model.state}
            labels = {**model.labels, **here}
            fragments.append(
                StateFragment(
                    SOURCE_TYPE, EntityType.MODEL_REVISION, name, at, shape, labels, self._context.source
                )
            )
        seen = Observation(fragments, warnings=found.warnings, drift=found.drift)
        seen.complete = not found.warnings
        if seen.complete:
            self._tell_gone(seen, names)
        return seen

    def _name(self, model: Model) -> str:
        return f"{self._options.service}/{model.id}" if self._options.service else model.id

    def _tell_gone(self, seen: Observation, names: set[str]) -> None:
        if self._known is None:
            seen.whole = (EntityType.MODEL_REVISION,)
        else:
            gone = sorted(self._known - names)
            seen.gone = [EntityKey(EntityType.MODEL_REVISION, self._context.scope, name) for name in gone]
        self._known = names

    async def close(self) -> None:
        """Close the connection. Repeating it does nothing."""
        await self._client.close()


def _path(url: str) -> str:
    """What is put behind the configured URL, which may name the server, its API, or the list itself."""
    path = urlsplit(url).path.rstrip("/")
    if path.endswith("/models"):
        return ""
    return "/models" if path.endswith("/v1") else "/v1/models"
