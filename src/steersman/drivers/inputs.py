"""Inputs of the operations that drivers offer: a Struct for each operation, and a check when they load."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from steersman.kernel.errors import InvalidInput
from steersman.kernel.nearest import did_you_mean
from steersman.kinds.step import Later


class OperationInputs(InvalidInput):
    """A step's inputs can't be right. `detail` names the input."""

    code = "operation_inputs"
    title = "Inputs of an operation"


class Inputs(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every operation takes. `dry_run`: say what would be done, and change nothing."""

    dry_run: bool = False


def read_inputs(schema: type[Inputs], given: dict[str, Any]) -> Any:
    """Inputs as they are used. Raises `OperationInputs`."""
    try:
        return msgspec.convert(given, schema)
    except msgspec.ValidationError as error:
        raise OperationInputs(str(error)) from None


def check_inputs(schema: type[Inputs], given: dict[str, Any]) -> None:
    """Refuse what can't be right though some values come later. Raises `OperationInputs`."""
    known = {field.encode_name: field for field in msgspec.structs.fields(schema)}
    for name in given:
        if name not in known:
            raise OperationInputs(f"there is no input {name!r}{did_you_mean(name, known)}")
    for name, field in known.items():
        if field.required and name not in given:
            raise OperationInputs(f"the input {name!r} is missing")
    if not any(_is_later(value) for value in given.values()):
        read_inputs(schema, given)
        return
    for name, value in given.items():
        if not _is_later(value):
            try:
                msgspec.convert(value, known[name].type)
            except msgspec.ValidationError as error:
                raise OperationInputs(f"{name}: {error}") from None


def _is_later(value: Any) -> bool:
    if isinstance(value, Later):
        return True
    if isinstance(value, dict):
        return any(_is_later(one) for one in value.values())  # pyright: ignore[reportUnknownVariableType] - any JSON
    if isinstance(value, list):
        return any(_is_later(one) for one in value)  # pyright: ignore[reportUnknownVariableType] - any JSON
    return False
