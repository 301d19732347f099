"""The nearest valid name to a wrong one, for errors that help."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

CUTOFF = 0.6
"""How alike two names must be (difflib's ratio) for one to be proposed for the other."""

COMPARED_MAX_CHARS = 128
"""A longer name is compared by its beginning: difflib's cost grows with the square of the length."""


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice most like `name`, or None where none is like it. Case and `-`/`_` make no difference."""
    plain = {_fold(choice): choice for choice in choices}
    found = get_close_matches(_fold(name), plain, n=1, cutoff=CUTOFF)
    return plain[found[0]] if found else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`; did you mean x?`, or nothing."""
    found = nearest(name, choices)
    return f"; did you mean {found}?" if found is not None else ""


def _fold(name: str) -> str:
    return name[:COMPARED_MAX_CHARS].casefold().replace("-", "_")
