"""Any instance of any of our structs, for tests that hold for all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import reject
from hypothesis import strategies as st
from msgspec import inspect as mi

from steersman.kinds.entity import EntityType
from steersman.kinds.fields import FIELDS, NUMBER_MAX, FieldSpec
from steersman.kinds.managed import Managed, read_managed, send_managed
from steersman.kinds.plane_resources import KINDS
from steersman.kinds.work import WorkVerdict

_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=4,
)


def instances(cls: type) -> st.SearchStrategy[Any]:
    """Instances of `cls` by its type information; what its own rules refuse is left out."""
    return _of(mi.type_info(cls))


def _number(info: Any, low: int, high: int) -> tuple[int, int]:
    least = info.ge if info.ge is not None else info.gt + 1 if info.gt is not None else low
    most = info.le if info.le is not None else high
    return int(least), int(most)


def _scalar(info: mi.Type) -> st.SearchStrategy[Any] | None:
    if isinstance(info, mi.IntType):
        low, high = _number(info, -(2**40), 2**40)
        return st.integers(low, high)
    if isinstance(info, mi.FloatType):
        low, high = _number(info, -(10**9), 10**9)
        return st.floats(low, high, allow_nan=False)
    if isinstance(info, mi.LiteralType):
        return st.sampled_from(info.values)
    if isinstance(info, mi.EnumType):
        return st.sampled_from(list(info.cls))
    simple: dict[type[mi.Type], st.SearchStrategy[Any]] = {
        mi.StrType: _TEXT,
        mi.BoolType: st.booleans(),
        mi.NoneType: st.none(),
        mi.AnyType: _JSON,
        mi.DateTimeType: st.datetimes(timezones=st.just(UTC)),
        mi.TimeDeltaType: st.timedeltas(timedelta(0), timedelta(days=9)),
    }
    return simple.get(type(info))


def _of(info: mi.Type) -> st.SearchStrategy[Any]:
    scalar = _scalar(info)
    if scalar is not None:
        return scalar
    if isinstance(info, mi.Metadata):
        return _of(info.type)
    if isinstance(info, mi.UnionType):
        return st.one_of([_of(arm) for arm in info.types])
    if isinstance(info, mi.ListType):
        return st.lists(_of(info.item_type), max_size=2)
    if isinstance(info, mi.VarTupleType):
        return st.lists(_of(info.item_type), max_size=2).map(tuple)
    if isinstance(info, mi.DictType):
        return st.dictionaries(_of(info.key_type), _of(info.value_type), max_size=2)
    if isinstance(info, mi.CustomType) and info.cls is Managed:
        return _managed()
    assert isinstance(info, mi.StructType), info
    return _struct(info)


@st.composite
def _managed(draw: st.DrawFn) -> Managed:
    """A resource as it is shown; its kind says of which class its state is. States are tested apart."""
    kind = draw(st.sampled_from(list(KINDS.values())))
    labels = draw(st.dictionaries(_TEXT, _TEXT, max_size=2))
    state = kind.STATE(id=draw(_TEXT), resource_type=kind.KIND, status=draw(_TEXT), labels=labels)
    return Managed(state, draw(st.none() | instances(WorkVerdict)))


@st.composite
def _struct(draw: st.DrawFn, info: mi.StructType) -> Any:
    """Each optional field is left at its default half of the time, so that defaults are met too."""
    given: dict[str, Any] = {}
    for field in info.fields:
        stored = (getattr(field.type, "extra_json_schema", None) or {}).get("x-stored")
        if field.required or (stored is None and draw(st.booleans())):
            given[field.name] = draw(_of(field.type))
    try:
        return info.cls(**given)
    except ValueError:
        reject()


def round_trips(value: Any) -> None:
    """Hold that a struct comes back the same from JSON and from msgpack."""
    for form in (msgspec.json, msgspec.msgpack):
        sent = form.encode(value, enc_hook=send_managed)
        assert form.decode(sent, type=type(value), dec_hook=read_managed) == value


def _declared(spec: FieldSpec) -> st.SearchStrategy[Any]:
    low = -NUMBER_MAX if spec.low is None else spec.low
    high = NUMBER_MAX if spec.high is None else spec.high
    return {
        float: st.floats(max(low, -1e18), min(high, 1e18)),
        int: st.integers(int(low), int(high)),
        str: st.sampled_from(spec.words) if spec.words else st.text(max_size=20),
        bool: st.booleans(),
        datetime: st.datetimes(timezones=st.just(UTC)),
        list: st.lists(st.text(max_size=5), max_size=3),
        dict: st.dictionaries(st.text(max_size=5), st.floats(-1e9, 1e9), max_size=3),
    }[spec.type]


@st.composite
def typed_fields(draw: st.DrawFn) -> tuple[EntityType, dict[str, Any]]:
    """An entity type, and values that fit some of its declared fields."""
    entity_type = draw(st.sampled_from(EntityType))
    specs = FIELDS[entity_type]
    chosen = draw(st.lists(st.sampled_from(sorted(specs)), unique=True, max_size=8))
    return entity_type, {name: draw(_declared(specs[name])) for name in chosen}
