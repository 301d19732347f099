"""The list of models of an OpenAI-compatible server: `GET /v1/models`.

Every such server answers it, most with keys of their own. What is read: `id`; `root` and `parent` (vLLM: what
an adapter belongs to); `status` (llama.cpp's router: loaded, loading, unloaded). `created` is the moment of
the answer for vLLM and llama.cpp, so it is no version. Ollama says null for an empty list.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import Struct, field

from steersman.drivers.api import SourceError
from steersman.kinds.fragment import TEXT_MAX_CHARS

MODELS_MAX = 1000
"""Models of one server; the gateways with the longest catalogues list some hundreds."""
ID_MAX_CHARS = 256
LISTED = "listed"
"""The state of a model that the server lists and says nothing more of."""


class Model(Struct, frozen=True):
    """One model. `labels` are what it belongs to."""

    id: str
    state: str = LISTED
    labels: dict[str, str] = field(default_factory=dict[str, str])


class Models(Struct):
    """What a list said. `complete` is False where some of it could not be read."""

    models: list[Model] = field(default_factory=list[Model])
    warnings: list[str] = field(default_factory=list[str])
    drift: list[str] = field(default_factory=list[str])


class _List(Struct):
    data: Any = msgspec.UNSET


class _Item(Struct):
    id: Any = None
    root: Any = None
    parent: Any = None
    status: Any = None


def read_models(body: bytes, place: str) -> Models:
    """The models of an answer's body. Raises `SourceError` where it is no such list."""
    try:
        answer = msgspec.json.decode(body, type=_List)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise SourceError(f"{place}: its answer is no list of models ({len(body)} bytes)") from None
    if answer.data is None:
        return Models()
    if not isinstance(answer.data, list):
        raise SourceError(f"{place}: its answer has no list of models under 'data'")
    found = Models()
    items = cast("list[Any]", answer.data)
    if len(items) > MODELS_MAX:
        found.warnings.append(f"{place}: {len(items)} models; the first {MODELS_MAX} are told")
    seen: set[str] = set()
    bad = 0
    for raw in items[:MODELS_MAX]:
        model = _read(raw, found.drift)
        if model is None:
            bad += 1
        elif model.id not in seen:
            seen.add(model.id)
            found.models.append(model)
    if bad:
        found.warnings.append(f"{place}: {bad} of its models have no usable id")
    return found


def _read(raw: Any, drift: list[str]) -> Model | None:
    try:
        item = msgspec.convert(raw, _Item)
    except msgspec.ValidationError:
        return None
    if not isinstance(item.id, str) or not 0 < len(item.id) <= ID_MAX_CHARS or "\0" in item.id:
        return None
    labels = {
        name: value
        for name, value in (("root", item.root), ("parent", item.parent))
        if isinstance(value, str) and 0 < len(value) <= ID_MAX_CHARS
    }
    status: Any = item.status
    if isinstance(status, dict):
        status = status.get("value")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - any mapping
    if status is None:
        return Model(item.id, LISTED, labels)
    if isinstance(status, str) and 0 < len(status) <= TEXT_MAX_CHARS:
        return Model(item.id, status, labels)
    if len(drift) < 1:
        drift.append("models: a status that is no text")
    return Model(item.id, "unknown", labels)
