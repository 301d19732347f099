"""docs/reference/health.md is the tables. `python tests/state/test_health_page.py` writes it anew."""

from __future__ import annotations

import sys
from pathlib import Path

from steersman.kinds.entity import EntityType
from steersman.state.health.table import Comparison, Entry, Rule, table_for

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "health.md"
START, END = "<!-- tables -->", "<!-- end of tables -->"
OPERATORS = {"eq": "is", "ne": "is not", "gt": ">", "ge": "≥", "lt": "<", "le": "≤", "lt_field": "<"}
OPERATORS |= {
    "ne_field": "is not",
    "in_": "is one of",
    "words": "has a word of",
    "not_words": "has no word of",
    "has": "holds one of",
}
OPERATORS |= {"contains": "contains one of", "beyond": "holds something else than"}
OPERATORS |= {"older_than_s": "lies further back (s) than"}
OPERATORS |= {"older_than_field": "lies further back (s) than"}


def told(test: Comparison) -> str:
    (name,) = [n for n in OPERATORS if getattr(test, n) is not None]
    value = getattr(test, name)
    shown = ", ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
    if test.keys:
        value_of = f"`{test.field}` of {', '.join(test.keys)}"
        return f"{value_of} {OPERATORS[name]} {shown}"
    field = f"`{test.field}`" + (f" / `{test.share_of}`" if test.share_of else "")
    return f"{field} {OPERATORS[name]} {f'`{shown}`' if name.endswith('_field') else shown}"


def condition(entry: Entry) -> str:
    parts = [told(test) for test in entry.all]
    if entry.any:
        parts.append("(" + " or ".join(told(test) for test in entry.any) + ")")
    text = " and ".join(parts)
    if entry.unless:
        text += ", unless " + " or ".join(told(test) for test in entry.unless)
    if isinstance(entry, Rule) and entry.unless_planned:
        text += f", unless {' or '.join(entry.unless_planned)}"
    return text


def tables() -> str:
    lines: list[str] = []
    for kind in EntityType:
        table = table_for(kind)
        groups = "; and ".join(" or ".join(f"`{name}`" for name in group) for group in table.evidence)
        lines += [
            f"### `{kind.value}`",
            "",
            f"Version {table.version}. Healthy needs a current {groups}.",
            "",
        ]
        if table.planned:
            lines += ["| planned state | when | health meanwhile |", "|---|---|---|"]
            lines += [
                f"| {p.name} | {condition(p)} | {'unknown' if p.unknown else 'as the rules say'} |"
                for p in table.planned
            ]
            lines.append("")
        lines += ["| rule | health | when | source |", "|---|---|---|---|"]
        own = [rule for rule in table.rules if not rule.name.startswith("reported_")]
        lines += [f"| {r.name} | {r.health.value} | {condition(r)} | {r.cite or 'ours'} |" for r in own]
        if not own:
            lines.append("| (none but those of every type) | | | |")
        lines.append("")
    return "\n".join(lines)


def page() -> str:
    text = PAGE.read_text()
    return text[: text.index(START) + len(START)] + "\n\n" + tables() + "\n" + text[text.index(END) :]


def test_the_page_is_the_tables() -> None:
    assert PAGE.read_text() == page(), "run: python tests/state/test_health_page.py"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.exit(0)
