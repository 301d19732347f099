"""docs/reference/kinds.md is what the types say, and what it shows can be read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from steersman.kinds.entity import EntityType
from steersman.kinds.lifecycle import Lifecycle
from steersman.kinds.schema import PUBLISHED

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "write-kinds-reference"
PAGE = (ROOT / "docs" / "reference" / "kinds.md").read_text()
HEADINGS = set(re.findall(r"^### `(\w+)`$", PAGE, re.MULTILINE))
SENT_AS_THEIR_STATE = {"Session", "SessionPart", "PodInstance", "Host", "Node", "Job", "Report"}
YAML_BLOCKS: list[str] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_page_is_up_to_date():
    done = run("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_script_refuses_what_it_does_not_know():
    assert run("--chek").returncode == 2


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_each_published_noun_has_a_heading_or_is_named_with_its_state(name: str):
    if name in SENT_AS_THEIR_STATE:
        assert f"`{name}` as `" in PAGE
    elif name.endswith("Entity"):
        assert name == "CanonicalEntity" or f"`{name}`. " in PAGE
    else:
        assert name in HEADINGS


def test_each_entity_type_has_a_heading():
    assert {entity_type.value for entity_type in EntityType} <= HEADINGS


def test_each_link_within_the_page_leads_somewhere():
    links = set(re.findall(r"\]\(#([\w-]+)\)", PAGE))
    assert links <= {heading.lower() for heading in HEADINGS}


@pytest.mark.parametrize("block", YAML_BLOCKS)
def test_each_lifecycle_on_the_page_can_be_read(block: str):
    assert Lifecycle.from_yaml(block).states
