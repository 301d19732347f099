"""Entities as they leave the process: secrets that somebody pushed as a label or a field are masked.

The bus keeps what it was told; masking at this one edge keeps passwords out of what people and other
programs read (decision 0017).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from steersman.kernel.redact import MASK, is_secret_key, redact, redact_text
from steersman.kinds.entity import CanonicalEntity
from steersman.kinds.explanation import EntityHistory, Explanation, FieldExplanation

E = TypeVar("E", bound=CanonicalEntity)

_is_secret = lru_cache(maxsize=4096)(is_secret_key)  # names repeat without end; the question is the same


def shown(entity: E) -> E:
    """The entity with secrets masked; itself where it holds none, which is nearly always."""
    changes: dict[str, Any] = {}
    if _suspect(entity.labels):
        changes["labels"] = masked(entity.labels)
    if entity.extra and _suspect(entity.extra):
        changes["extra"] = masked(entity.extra)
    for name in ("url", "last_error", "command"):
        value = getattr(entity, name, None)
        if isinstance(value, str) and _suspect_text(value):
            changes[name] = redact_text(value)
    return msgspec.structs.replace(entity, **changes) if changes else entity


def masked(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with the values of secret names masked, and credentials taken out of texts."""
    return cast("dict[str, Any]", redact(dict(values)))


def shown_explanation(explained: Explanation) -> Explanation:
    """An explanation with secrets masked: of fields, of what other sources say of them, and of labels."""
    fields = {name: _shown_field(name, one) for name, one in explained.fields.items()}
    labels = {
        name: msgspec.structs.replace(one, value=_masked_value(name, one.value))
        for name, one in explained.labels.items()
    }
    sources = tuple(msgspec.structs.replace(one, detail=redact_text(one.detail)) for one in explained.sources)
    return msgspec.structs.replace(explained, fields=fields, labels=labels, sources=sources)


def shown_history(history: EntityHistory) -> EntityHistory:
    """A history with secrets masked among its states."""
    states = tuple(
        msgspec.structs.replace(
            change, fields={name: _masked_value(name, value) for name, value in change.fields.items()}
        )
        for change in history.states
    )
    return msgspec.structs.replace(history, states=states)


def _shown_field(name: str, one: FieldExplanation) -> FieldExplanation:
    others = tuple(
        msgspec.structs.replace(other, value=_masked_value(name, other.value)) for other in one.others
    )
    return msgspec.structs.replace(one, value=_masked_value(name, one.value), others=others)


def _masked_value(name: str, value: Any) -> Any:
    if value is None:
        return None
    return MASK if _is_secret(name) else redact(value)


def _suspect(values: Mapping[str, Any]) -> bool:
    for name, value in values.items():
        if _is_secret(name):
            return True
        if isinstance(value, str):
            if _suspect_text(value):
                return True
        elif isinstance(value, dict | list | tuple):
            return True  # rare, and may hold anything: the full search decides
    return False


def _suspect_text(text: str) -> bool:
    """Whether the slow search may find something: all shapes it knows have one of these."""
    return "://" in text or "=" in text or ":" in text or " " in text
