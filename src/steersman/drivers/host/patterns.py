"""Regular expressions whose cost is bounded, for choosing processes.

Anybody on the machine can start a process with a command line of their choice, and Python's `re` holds the
interpreter while it matches. So a pattern must not be able to take exponential time, and the text that it
is tried on is short. What is refused here is what makes backtracking explode: a repetition inside a
repetition, a choice inside a repetition, back references and look-around.
"""

from __future__ import annotations

import re
import warnings

SUBJECT_MAX_CHARS = 512
"""Text that a pattern is tried on; with at most two repetitions the worst case is below 10^8 steps."""
REPEATS_MAX = 2

_ESCAPE = re.compile(r"\\.", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_REPEAT = re.compile(r"(?:[*+]|\{\d*,?\d*\})[?+]?")
_PLAIN_GROUPS = re.compile(r"\((?:\?:|\?P<\w+>|(?!\?))")
_FLAGS = re.compile(r"\(\?[aimsx]+\)")


def compile_pattern(text: str) -> re.Pattern[str]:
    """The compiled pattern. Raises ValueError, which says what is not allowed and why."""
    _check(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "possible nested set": what it means may change, so not accepted
            return re.compile(text)
    except (re.error, Warning) as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from error


def found(pattern: re.Pattern[str], subject: str) -> bool:
    """Whether the pattern is somewhere in the first `SUBJECT_MAX_CHARS` of `subject`."""
    return pattern.search(subject[:SUBJECT_MAX_CHARS]) is not None


def _check(text: str) -> None:
    at, repeats = 0, 0
    # For each open group: whether something in it repeats or chooses.
    groups: list[bool] = [False]
    closed: bool | None = None  # the group that has just been closed
    while at < len(text):
        piece = _next(text, at)
        if piece == "(" or _PLAIN_GROUPS.fullmatch(piece):
            groups.append(False)
            closed = None
        elif piece == ")" and len(groups) > 1:
            closed = groups.pop()
            groups[-1] = groups[-1] or closed
        elif piece == "|" or piece == "?":
            if piece == "?" and closed:
                raise _refusal(text, "an optional group may not hold a repetition or a choice")
            groups[-1] = True
            closed = None
        elif _REPEAT.fullmatch(piece):
            repeats += 1
            if closed:
                raise _refusal(text, "a repeated group may not hold a repetition or a choice")
            groups[-1] = True
            closed = None
        else:
            closed = None
        at += len(piece)
    if repeats > REPEATS_MAX:
        raise _refusal(text, f"at most {REPEATS_MAX} repetitions are allowed")


def _next(text: str, at: int) -> str:
    """The piece that starts at `at`."""
    for shape in (_ESCAPE, _CLASS, _FLAGS, _PLAIN_GROUPS, _REPEAT):
        match = shape.match(text, at)
        if match is not None:
            piece = match[0]
            if shape is _ESCAPE and piece[1].isdigit() and piece[1] != "0":
                raise _refusal(text, "back references are not allowed")
            return piece
    if text.startswith("(?", at):
        raise _refusal(text, "look-around, back references and inline options of groups are not allowed")
    return text[at]


def _refusal(text: str, why: str) -> ValueError:
    return ValueError(f"pattern {text!r}: {why}, because matching it could take unbounded time")
