"""Operators and functions on values that are known. Each gives a value, or `Unknown` where it makes no sense:
an expression over the facts of a fleet never raises.

Numbers compare by size whether whole or not; values of different kinds are unequal, and in no order.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from steersman.kernel.cel.values import Unknown, merged, senseless
from steersman.kernel.clock import as_utc
from steersman.kernel.errors import InvalidInput
from steersman.kernel.quantity import Duration

INT_MAX, INT_MIN = 2**63 - 1, -(2**63)
GROWN_MAX_CHARS = 65_536
LIST_MAX = 10_000
PATTERNS_KEPT = 256


def is_number(value: Any) -> bool:
    """Whole or not; True and False are no numbers."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def unknown_items(value: Any) -> list[Unknown]:
    """What a list, and lists in it, hold that can't be told; empty for any other value."""
    if not isinstance(value, list):
        return [value] if isinstance(value, Unknown) else []
    return [more for item in cast("list[Any]", value) for more in unknown_items(item)]


def _whole_lists(left: Any, right: Any) -> Any:
    """Equality, except where a list may have more than is known."""
    more = [*unknown_items(left), *unknown_items(right)]
    return merged(*more) if more else equal(left, right)


def equal(left: Any, right: Any) -> bool:
    """Equality over all kinds: numbers by size, lists and maps by their parts."""
    if is_number(left) and is_number(right):
        return bool(left == right)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        pair = cast("tuple[Sequence[Any], Sequence[Any]]", (left, right))
        return len(pair[0]) == len(pair[1]) and all(map(equal, *pair))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        one, other = cast("tuple[Mapping[Any, Any], Mapping[Any, Any]]", (left, right))
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(left, str) and isinstance(right, str):
        return str(left) == str(right)
    return kind_of(cast("Any", left)) == kind_of(right) and bool(left == right)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    def order(left: Any, right: Any) -> Any:
        both = (left, right)
        if all(map(is_number, both)):
            return compare(left, right)
        for kind in (str, bool, datetime, timedelta):
            if isinstance(left, kind) and isinstance(right, kind):
                return compare(left, right)
        return senseless(f"{kind_of(left)} and {kind_of(right)} have no order")

    return order


def contains(item: Any, whole: Any) -> Any:
    """`in`: a list's item or a map's key."""
    if isinstance(whole, (list, tuple)):
        if any(equal(item, other) for other in cast("Sequence[Any]", whole)):
            return True
        more = [*unknown_items(item), *unknown_items(whole)]
        return merged(*more) if more else False
    if isinstance(whole, Mapping):
        return any(equal(item, key) for key in cast("Mapping[Any, Any]", whole))
    return senseless(f"in wants a list or a map, not {kind_of(whole)}")


def add(left: Any, right: Any) -> Any:
    """Numbers, texts, lists, times and durations."""
    if is_number(left) and is_number(right):
        return bounded(left + right)
    if isinstance(left, str) and isinstance(right, str):
        return (
            left + right
            if len(left) + len(right) <= GROWN_MAX_CHARS
            else senseless("the text grows too long")
        )
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        joined = [*cast("Sequence[Any]", left), *cast("Sequence[Any]", right)]
        return joined if len(joined) <= LIST_MAX else senseless("the list grows too long")
    if isinstance(right, timedelta) and isinstance(left, (datetime, timedelta)):
        return _timed(lambda: left + right)
    if isinstance(left, timedelta) and isinstance(right, datetime):
        return _timed(lambda: right + left)
    return senseless(f"{kind_of(left)} + {kind_of(right)}")


def subtract(left: Any, right: Any) -> Any:
    """Numbers, times and durations."""
    if is_number(left) and is_number(right):
        return bounded(left - right)
    if isinstance(left, datetime) and isinstance(right, (datetime, timedelta)):
        return _timed(lambda: left - right)
    if isinstance(left, timedelta) and isinstance(right, timedelta):
        return _timed(lambda: left - right)
    return senseless(f"{kind_of(left)} - {kind_of(right)}")


def multiply(left: Any, right: Any) -> Any:
    """Numbers."""
    return bounded(left * right) if is_number(left) and is_number(right) else _no_number("*", left, right)


def divide(left: Any, right: Any) -> Any:
    """Numbers; whole ones give a whole one, towards zero, as the language says."""
    if not (is_number(left) and is_number(right)):
        return _no_number("/", left, right)
    if right == 0:
        return senseless("division by zero")
    if isinstance(left, int) and isinstance(right, int):
        size = abs(left) // abs(right)
        return bounded(size if (left < 0) == (right < 0) else -size)
    return left / right


def remainder(left: Any, right: Any) -> Any:
    """Whole numbers; it has the sign of the left one."""
    if (
        not (isinstance(left, int) and isinstance(right, int))
        or isinstance(left, bool)
        or isinstance(right, bool)
    ):
        return senseless(f"{kind_of(left)} % {kind_of(right)}")
    if right == 0:
        return senseless("division by zero")
    size = abs(left) % abs(right)
    return size if left >= 0 else -size


def negate(value: Any) -> Any:
    """A number's or a duration's opposite."""
    if isinstance(value, timedelta):
        return -value
    return bounded(-value) if is_number(value) else senseless(f"-{kind_of(value)}")


def index(whole: Any, at: Any) -> Any:
    """An item of a list or a map's value."""
    if isinstance(whole, Mapping):
        if not isinstance(at, (str, int, float)):
            return senseless(f"{kind_of(at)} is no key of a map")
        found = cast("Mapping[Any, Any]", whole).get(at)
        return senseless(f"the map has no key {str(at)[:60]!r}") if found is None else found
    if isinstance(whole, (list, tuple)) and isinstance(at, int) and not isinstance(at, bool):
        items = cast("Sequence[Any]", whole)
        return items[at] if 0 <= at < len(items) else senseless(f"the list has no item {at}")
    return senseless(f"{kind_of(whole)} has no item {str(at)[:60]!r}")


def bounded(value: Any) -> Any:
    """A whole number of 64 bits, or any other number."""
    if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        return senseless("the number is larger than 64 bits")
    return value


def kind_of(value: Any) -> str:
    """A value's kind, in the language's words."""
    for kind, word in _KIND_WORDS:
        if isinstance(value, kind):
            return word
    return type(value).__name__


def _timed(compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except (OverflowError, TypeError) as error:
        return senseless(str(error))


def _no_number(sign: str, left: Any, right: Any) -> Unknown:
    return senseless(f"{kind_of(left)} {sign} {kind_of(right)}")


_KIND_WORDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a bool"),
    (int, "an int"),
    (float, "a double"),
    (str, "a string"),
    (datetime, "a timestamp"),
    (timedelta, "a duration"),
    ((list, tuple), "a list"),
    (Mapping, "a map"),
)

BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "relation_lt": _ordered(operator.lt),
    "relation_le": _ordered(operator.le),
    "relation_gt": _ordered(operator.gt),
    "relation_ge": _ordered(operator.ge),
    "relation_eq": _whole_lists,
    "relation_ne": lambda left, right: (
        same if isinstance(same := _whole_lists(left, right), Unknown) else not same
    ),
    "relation_in": contains,
    "addition_add": add,
    "addition_sub": subtract,
    "multiplication_mul": multiply,
    "multiplication_div": divide,
    "multiplication_mod": remainder,
}
"""Operators by the grammar's names."""


def _size(value: Any) -> Any:
    more = unknown_items(value)
    if more:
        return merged(*more)
    if isinstance(value, (str, list, tuple, Mapping)):
        return len(cast("Sequence[Any]", value))
    return senseless(f"size of {kind_of(value)}")


def _int(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp())
    return _converted(int, value, (int, float, str))


def _double(value: Any) -> Any:
    return _converted(float, value, (int, float, str))


def _converted(make: Callable[[Any], Any], value: Any, kinds: tuple[type, ...]) -> Any:
    if isinstance(value, bool) or not isinstance(value, kinds):
        return senseless(f"{kind_of(value)} is no number")
    try:
        return bounded(make(value))
    except (ValueError, OverflowError):
        return senseless(f"{str(value)[:60]!r} is no number")


def _string(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return as_utc(value).isoformat().replace("+00:00", "Z")
    return str(value) if isinstance(value, (str, int, float)) else senseless(f"{kind_of(value)} as text")


def _bool(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    word = {"true": True, "false": False}.get(value) if isinstance(value, str) else None
    return senseless(f"{str(value)[:60]!r} is no bool") if word is None else word


def _itself(value: Any) -> Any:
    return value


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    try:
        return timedelta(seconds=float(Duration.from_text(value)))
    except (InvalidInput, TypeError, OverflowError):
        return senseless(f"{str(value)[:60]!r} is no duration")


def _timestamp(value: Any) -> Any:
    if isinstance(value, datetime):
        return as_utc(value)
    try:
        if is_number(value):
            return datetime.fromtimestamp(value, UTC)
        return as_utc(datetime.fromisoformat(value))
    except (ValueError, TypeError, OverflowError, OSError):
        return senseless(f"{str(value)[:60]!r} is no timestamp")


def _matches(text: Any, pattern: Any) -> Any:
    if not (isinstance(text, str) and isinstance(pattern, str)):
        return senseless("matches wants a text and a pattern")
    if len(text) > GROWN_MAX_CHARS:
        return senseless("the text is too long to match")
    try:
        return _pattern(pattern).search(text) is not None
    except ValueError as error:
        return senseless(str(error))


@lru_cache(maxsize=PATTERNS_KEPT)
def _pattern(pattern: str) -> Any:
    """RE2's patterns take time linear in the text, whatever a policy's author wrote."""
    import re2  # pyright: ignore[reportMissingTypeStubs] - it has none; loaded when a pattern is first used

    compile_it: Any = re2.compile  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - the same
    try:
        return compile_it(pattern)
    except Exception as error:  # noqa: BLE001 - re2.error is not exported in a form that can be named
        raise ValueError(f"the pattern {pattern[:60]!r} can't be read: {error}") from None


def _of_texts(call: Callable[[str, str], bool]) -> Callable[[Any, Any], Any]:
    def on_texts(text: Any, other: Any) -> Any:
        if isinstance(text, str) and isinstance(other, str):
            return call(text, other)
        return senseless(f"wants two texts, not {kind_of(text)} and {kind_of(other)}")

    return on_texts


def _of_time(part: Callable[[datetime], int]) -> Callable[[Any], Any]:
    def on_time(value: Any) -> Any:
        return (
            part(as_utc(value))
            if isinstance(value, datetime)
            else senseless(f"{kind_of(value)} is no timestamp")
        )

    return on_time


FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "size": (1, _size),
    "int": (1, _int),
    "double": (1, _double),
    "string": (1, _string),
    "bool": (1, _bool),
    "dyn": (1, _itself),
    "duration": (1, _duration),
    "timestamp": (1, _timestamp),
    "matches": (2, _matches),
}
"""Functions by name: how many arguments, and what they do. `x.matches(p)` is the same as `matches(x, p)`."""

METHODS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "size": FUNCTIONS["size"],
    "matches": FUNCTIONS["matches"],
    "contains": (2, _of_texts(lambda text, other: other in text)),
    "startsWith": (2, _of_texts(str.startswith)),
    "endsWith": (2, _of_texts(str.endswith)),
    "getFullYear": (1, _of_time(lambda at: at.year)),
    "getMonth": (1, _of_time(lambda at: at.month - 1)),  # from 0, as the language has it
    "getDayOfMonth": (1, _of_time(lambda at: at.day - 1)),
    "getDate": (1, _of_time(lambda at: at.day)),
    "getDayOfWeek": (1, _of_time(lambda at: at.isoweekday() % 7)),  # Sunday is 0
    "getHours": (1, _of_time(lambda at: at.hour)),
    "getMinutes": (1, _of_time(lambda at: at.minute)),
    "getSeconds": (1, _of_time(lambda at: at.second)),
}
"""Functions that are written behind their first argument; the number counts that argument."""

ESCAPES = re.compile(
    r"\\(?:([abfnrtv\\\"'`?])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2}))"
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def has_unknown_escape(text: str) -> bool:
    """Whether a text literal's content has a backslash that begins no escape."""
    return "\\" in ESCAPES.sub("", text)


def unescaped(text: str) -> str:
    """A text literal's content, with its escapes read."""

    def one(found: re.Match[str]) -> str:
        plain, *numbers, octal = found.groups()
        if plain is not None:
            return _PLAIN.get(plain, plain)
        digits = next((number for number in numbers if number is not None), None)
        return chr(int(digits, 16) if digits is not None else int(octal, 8))

    return ESCAPES.sub(one, text)
