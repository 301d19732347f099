"""Logs: JSON off a terminal, one chain for all, no secret in any line, no import before the first line."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from steersman.kernel.clock import ManualClock
from steersman.kernel.logging import TEXT_MAX_CHARS, configure, get_logger


class Lines:
    """What was logged, a dict a line."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    restore = configure(
        clock=ManualClock(datetime(2026, 3, 1, tzinfo=UTC)), level="info", stream=lines.stream
    )
    yield lines
    restore()


def test_a_line_off_a_terminal_is_json_with_the_clocks_time(lines: Lines) -> None:
    get_logger("observe.intake").bind(source="x").info("source_up", n=3)
    assert lines.read() == [
        {
            "event": "source_up",
            "source": "x",
            "n": 3,
            "level": "info",
            "logger": "steersman.observe.intake",
            "time": "2026-03-01T00:00:00.000+00:00",
        }
    ]


def test_lines_under_the_level_are_dropped(lines: Lines) -> None:
    get_logger("x").debug("fine_detail")
    assert lines.read() == []


def test_secrets_are_masked_in_keys_texts_and_tracebacks(lines: Lines) -> None:
    try:
        raise OSError("cannot reach postgresql://ada:hunter2@db/x with token=hunter2")
    except OSError as error:
        get_logger("x").error(
            "failed",
            token="hunter2",
            options={"api_key": "hunter2", "list": [{"password": "hunter2"}]},
            url="http://u:hunter2@h/",
            exc_info=error,
        )
    text = lines.stream.getvalue()
    assert "hunter2" not in text
    (line,) = lines.read()
    assert line["token"] == "***"
    assert "OSError: cannot reach postgresql://***@db/x" in line["exception"]


def test_a_librarys_line_passes_the_same_chain(lines: Lines) -> None:
    logging.getLogger("some.library").warning("login with password=%s failed", "hunter2")
    (line,) = lines.read()
    assert line["event"] == "library_log"
    assert line["message"] == "login with password=*** failed"
    assert line["logger"] == "some.library"


def test_a_logger_made_before_configure_follows_it(lines: Lines) -> None:
    logger = get_logger("early")
    logger.info("one")
    other = Lines()
    restore = configure(clock=ManualClock(), stream=other.stream)
    logger.info("two")
    restore()
    assert [line["event"] for line in other.read()] == ["two"]


def test_what_is_not_plain_data_is_still_logged(lines: Lines) -> None:
    get_logger("x").info("odd", value=object, when=datetime(2026, 1, 1, tzinfo=UTC))
    assert lines.read()[0]["when"].startswith("2026-01-01")


def test_a_wrong_level_is_refused() -> None:
    with pytest.raises(ValueError, match="log level is one of"):
        configure(clock=ManualClock(), level="loud")


def test_a_console_line_is_for_people_and_hides_secrets_too() -> None:
    lines = Lines()
    restore = configure(clock=ManualClock(), fmt="console", stream=lines.stream)
    try:
        secret = "hunter2"  # in a local variable, which a traceback with locals would show
        raise OSError(f"no {len(secret)}")
    except OSError as error:
        get_logger("x").error("it_failed", token=secret, exc_info=error)
    restore()
    text = lines.stream.getvalue()
    assert "it_failed" in text
    assert "OSError: no 7" in text
    assert "token=***" in text
    assert "hunter2" not in text


def test_getting_a_logger_imports_nothing_heavy() -> None:
    code = (
        "import sys, steersman.kernel.tasks, steersman.kernel.logging as log; log.get_logger('x');"
        "sys.exit(1 if {'structlog', 'rich'} & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unconfigured_warnings_reach_stderr_and_hide_secrets() -> None:
    code = (
        "from steersman.kernel.logging import get_logger; "
        "get_logger('x').info('quiet'); get_logger('x').warning('loud', token='hunter2')"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "loud" in run.stderr
    assert "quiet" not in run.stderr
    assert run.stdout == ""
    assert "hunter2" not in run.stderr


def test_a_text_that_carries_a_whole_body_is_cut_in_its_middle(lines: Lines) -> None:
    try:
        raise ValueError("y" * 1_000_000)
    except ValueError as error:
        get_logger("t").error("failed", exc_info=error, detail="begin" + "x" * 1_000_000 + "end")
    (line,) = lines.read()
    assert len(line["exception"]) < TEXT_MAX_CHARS + 100
    assert line["exception"].startswith("Traceback")
    assert line["detail"].startswith("begin")
    assert line["detail"].endswith("end")
