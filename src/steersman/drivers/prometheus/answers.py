"""Answers of the HTTP API (`/api/v1/query`): the envelope, its errors, and the kinds of result.

    {"status": "success", "data": {"resultType": "vector", "result": [...]}, "warnings": [], "infos": []}

Only what is read has a name here. A result is decoded in two steps, since its shape depends on its type, and
a series' labels stay raw text: they are a key that is read once.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from steersman.drivers.api import SourceError
from steersman.drivers.web.client import Answer

SERIES_MAX = 250_000
"""Series of one answer. The API is asked for no more, and says so where it left some out."""
TEXT_MAX_CHARS = 200
"""Of a message that the API sent."""
NOTES_MAX = 5


class Sample(Struct, gc=False):
    """One series of a vector. A native histogram has `histogram` in the place of `value`."""

    metric: Raw = Raw(b"{}")
    value: tuple[float, str] | None = None
    histogram: Raw = Raw()


class Vector(Struct):
    """The series of an answer, when they were evaluated, and what the API said beside them. `truncated` says
    that series are missing."""

    samples: list[Sample] = field(default_factory=list[Sample])
    at_s: float | None = None
    notes: list[str] = field(default_factory=list[str])
    truncated: bool = False


class _Data(Struct):
    resultType: str = ""  # noqa: N815 - as it is spelt there
    result: Raw = Raw(b"null")


class _Envelope(Struct):
    status: str = ""
    data: _Data | None = None
    errorType: str = ""  # noqa: N815 - as it is spelt there
    error: str = ""
    warnings: list[str] | None = None
    infos: list[str] | None = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_SAMPLES: msgspec.json.Decoder[list[Sample] | None] = msgspec.json.Decoder(list[Sample] | None)
_LABELS = msgspec.json.Decoder(dict[str, str])
_SCALAR = msgspec.json.Decoder(tuple[float, str])


def read_answer(answer: Answer) -> Vector:
    """The vector of an answer; a scalar is one series without labels. Raises `SourceError` for an error of
    the API, whatever data stands beside it, and for every other shape."""
    try:
        envelope = _ENVELOPE.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # ValidationError is a DecodeError. A proxy's page of text is not repeated: who knows what it shows.
        answer.expect()
        raise SourceError(f"{answer.place}: its answer is no answer of the Prometheus API") from None
    if answer.status != 200 or envelope.status != "success":
        raise SourceError(_refusal(answer, envelope))
    if envelope.data is None:
        raise SourceError(f"{answer.place}: its answer has no data")
    kind = envelope.data.resultType
    try:
        vector = _result(kind, envelope.data.result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SourceError(f"{answer.place}: its {kind[:32]!r} can't be read") from None
    if vector is None:
        raise SourceError(f"{answer.place}: a vector or a scalar was expected, and {kind[:32]!r} came")
    vector.notes = [_short(note) for note in [*(envelope.warnings or ()), *(envelope.infos or ())]][
        :NOTES_MAX
    ]
    vector.truncated = len(vector.samples) > SERIES_MAX
    del vector.samples[SERIES_MAX:]
    return vector


def read_labels(raw: bytes) -> dict[str, str]:
    """A series' labels, `__name__` among them. Raises `SourceError`."""
    try:
        return _LABELS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise SourceError("the labels of a series can't be read") from None


def _result(kind: str, result: Raw) -> Vector | None:
    if kind == "vector":
        samples: list[Sample] = _SAMPLES.decode(result) or []
        first = next((sample.value for sample in samples if sample.value is not None), None)
        return Vector(samples, first[0] if first is not None else None)
    if kind == "scalar":
        value: Any = _SCALAR.decode(result)
        return Vector([Sample(value=value)], value[0])
    return None


def _refusal(answer: Answer, envelope: _Envelope) -> str:
    """What the API said: refused credentials, a bad query, one that can't be executed, no time."""
    if answer.status in (401, 403):
        return f"{answer.place} refused our credentials (status {answer.status})"
    kind = f" ({_short(envelope.errorType)})" if envelope.errorType else ""
    said = f": {_short(envelope.error)}" if envelope.error else ""
    return f"{answer.place} answered status {answer.status}{kind}{said}"


def _short(text: str) -> str:
    """A message on one line."""
    plain = " ".join(text.split())
    return plain if len(plain) <= TEXT_MAX_CHARS else f"{plain[: TEXT_MAX_CHARS - 1]}…"
