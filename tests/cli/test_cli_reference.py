"""docs/reference/cli.md is the program's own word."""

from __future__ import annotations

import re
from pathlib import Path

from steersman.cli.reference import BEGIN, leaves, updated
from steersman.kinds.entity import EntityType
from steersman.kinds.names import SHORT_FORMS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()


def test_each_command_has_a_heading_and_nothing_else_has() -> None:
    headings = re.findall(r"^### `steersman ([^`]+)`", PAGE, re.MULTILINE)
    assert headings == [path for path, _ in leaves()]
    assert PAGE.count(BEGIN) == len(headings)


def test_options_and_examples_are_as_in_the_program() -> None:
    assert updated(PAGE) == PAGE, "run: python -m steersman.cli.reference docs/reference/cli.md"


def test_short_forms_are_as_in_the_program() -> None:
    for kind in EntityType:
        short = ", ".join(f"`{word}`" for word in SHORT_FORMS[kind])
        assert f"| `{kind.value}` | {short} |".replace("|  |", "| |") in PAGE


def test_a_block_of_no_command_is_told() -> None:
    assert "no such command" in updated(f"### `steersman gone`\n\n{BEGIN}\n<!-- to here -->\n")
