"""What a pipe gets is plain and stable; what a terminal gets has colour."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from steersman.cli.columns import COLUMNS
from steersman.cli.entities import headings_of, key_figures, row_of, write_entities
from steersman.cli.screen import plain_lines, write_json, write_pairs, write_table, write_yaml
from steersman.kinds.entity import ENTITY_CLASSES, EntityType, GPUEntity, HealthState, NodeEntity
from steersman.kinds.fields import FIELDS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def node(name: str = "n1", **fields: object) -> NodeEntity:
    return NodeEntity(entity_id=name, entity_type=EntityType.NODE, observed_at=NOW, **fields)  # type: ignore[arg-type]  # fields by test


def test_columns_are_three_spaces_apart_and_unpadded_at_the_end() -> None:
    assert plain_lines(["A", "LONG"], [["xx", "y"], ["z", ""]]) == ["A    LONG", "xx   y", "z"]


def test_no_rows_is_the_heading_alone() -> None:
    assert plain_lines(["A", "B"], []) == ["A   B"]
    assert plain_lines([], []) == []


@pytest.mark.parametrize("kind", EntityType)
def test_columns_name_fields_of_their_type(kind: EntityType) -> None:
    columns = COLUMNS[kind]
    names = [column.field for column in columns.usual + columns.wide]
    assert set(names) <= set(FIELDS[kind])
    assert len(names) == len(set(names))
    headings = headings_of(kind, wide=True)
    assert len(headings) == len(set(headings))
    assert all(heading == heading.upper() and " " not in heading for heading in headings)


@pytest.mark.parametrize("kind", EntityType)
def test_an_entity_without_any_field_is_a_row_of_dashes(kind: EntityType) -> None:
    entity = ENTITY_CLASSES[kind](entity_id="x", entity_type=kind, observed_at=NOW)
    for wide in (False, True):
        row = row_of(entity, wide, NOW)
        assert len(row) == len(headings_of(kind, wide))
        assert set(row[5 : 5 + len(COLUMNS[kind].usual)]) == {"-"}


def test_a_table_of_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    entities = [
        node(
            "a",
            scope="east",
            health_state=HealthState.HEALTHY,
            confidence_score=0.97,
            cpu_utilization=0.123,
            gpu_count=0,
        ),
        node("bb", deleted_at=NOW),
    ]
    write_entities(entities, wide=False, now=NOW)
    assert capsys.readouterr().out == (
        "NAME   SCOPE   HEALTH    CONFIDENCE   AGE   CPU     MEMORY   DISK   LOAD   GPUS\n"
        "a      east    healthy   0.97         0s    12.3%   -        -      -      0\n"
        "bb     -       gone      0.00         0s    -       -        -      -      -\n"
    )


def test_several_kinds_have_titles(capsys: pytest.CaptureFixture[str]) -> None:
    gpu = GPUEntity(entity_id="GPU-1", entity_type=EntityType.GPU, observed_at=NOW)
    write_entities([node(), gpu], wide=False, now=NOW)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "gpus:"
    assert lines[3:5] == ["", "nodes:"]


def test_key_figures_leave_out_what_is_absent() -> None:
    assert key_figures(node(cpu_utilization=0.5, gpu_count=0), NOW) == "cpu 50%  gpus 0"


def test_json_and_yaml_carry_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"at": NOW, "n": 1})
    assert capsys.readouterr().out == '{\n  "at": "2026-01-01T00:00:00Z",\n  "n": 1\n}\n'
    write_yaml({"n": 1, "at": NOW, "list": ["ä"]})
    assert capsys.readouterr().out == "n: 1\nat: '2026-01-01T00:00:00Z'\nlist:\n- ä\n"


def test_pairs_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs([("A", "1"), ("Long", "")])
    assert capsys.readouterr().out == "A:     1\nLong:\n"


def test_a_table_into_a_pipe_has_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(["HEALTH"], [["critical"]])
    assert capsys.readouterr().out == "HEALTH\ncritical\n"


def on_a_terminal(tmp_path: Path, **env: str) -> str:
    """What a table looks like in a process whose stdout is a terminal."""
    main, child = pty.openpty()
    code = (
        "from steersman.cli.screen import write_table\nwrite_table(['NAME', 'HEALTH'], [['[x]', 'critical']])"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        stdout=child,
        check=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", **env},
    )
    os.close(child)
    text = os.read(main, 65536).decode()
    os.close(main)
    return text


def test_a_terminal_gets_colour_and_names_are_no_markup(tmp_path: Path) -> None:
    text = on_a_terminal(tmp_path)
    assert "\x1b[" in text
    assert "[x]" in text


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_can_be_refused(tmp_path: Path, env: dict[str, str]) -> None:
    text = on_a_terminal(tmp_path, **env)
    assert text.replace("\r", "") == "NAME   HEALTH\n[x]    critical\n"


PROGRESS = (
    "from steersman.cli.screen import progress\n"
    "with progress('recording') as tell:\n    tell('1 KiB')\n"
    "print('done')"
)


def test_progress_is_for_terminals_alone() -> None:
    quiet = subprocess.run([sys.executable, "-c", PROGRESS], capture_output=True, check=True, timeout=60)
    assert (quiet.stdout, quiet.stderr) == (b"done\n", b"")
    main, child = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", PROGRESS],
        stdout=subprocess.PIPE,
        stderr=child,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "TERM": "xterm"},
    )
    os.close(child)
    shown = os.read(main, 65536)
    os.close(main)
    assert done.stdout == b"done\n"
    assert b"recording" in shown
