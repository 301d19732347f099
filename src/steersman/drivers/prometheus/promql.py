"""Pieces of PromQL as text. Names and values are always quoted, so that none can end an expression."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_PLAIN_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


def quoted(text: str) -> str:
    """A text as a string of PromQL."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{plain}"'


def selector(
    metrics: Sequence[str],
    match: Mapping[str, Sequence[str]],
    unless: Mapping[str, Sequence[str]],
    only: Mapping[str, Sequence[str]],
) -> str:
    """A vector selector: any of `metrics`, labels as `match` and `only` want them and `unless` does not."""
    terms = [_term("__name__", metrics, "=")]
    terms += [_term(label, words, "=") for label, words in (*match.items(), *only.items())]
    terms += [_term(label, words, "!") for label, words in unless.items()]
    return "{" + ",".join(terms) + "}"


def grouped(operation: str, labels: Iterable[str], expression: str) -> str:
    """An aggregation that keeps `labels`."""
    return f"{operation} by ({', '.join(label_name(label) for label in labels)}) ({expression})"


def once(copies: Sequence[str], expression: str) -> str:
    """The vector with one series, the largest, for those that differ in these labels alone."""
    if not copies:
        return expression
    return f"max without ({', '.join(label_name(label) for label in copies)}) ({expression})"


def label_name(label: str) -> str:
    """A label's name as it stands in an expression; one that Prometheus 3 alone knows is quoted."""
    return label if _PLAIN_LABEL.fullmatch(label) else quoted(label)


def marked(expression: str, number: int) -> str:
    """The vector with a label that tells it from others, so that they can stand in one."""
    return f'label_replace({expression}, "steersman_part", "{number}", "", "")'


def _term(label: str, words: Sequence[str], sign: str) -> str:
    if len(words) == 1 and not words[0].endswith("*"):
        return f"{label_name(label)}{'=' if sign == '=' else '!='}{quoted(words[0])}"
    pattern = "|".join(f"{_literal(word[:-1])}.*" if word.endswith("*") else _literal(word) for word in words)
    return f"{label_name(label)}{'=~' if sign == '=' else '!~'}{quoted(pattern)}"


def _literal(text: str) -> str:
    """A text as a pattern of RE2 that matches it alone."""
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", text)
