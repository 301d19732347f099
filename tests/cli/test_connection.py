"""Where a command connects to, what time it is there, and blocks that end by themselves."""

from __future__ import annotations

import argparse
import signal

import pytest

from steersman.cli.connection import connect, server_now, time_limit
from steersman.cli.exits import WrongUsage
from steersman.cli.program import load
from steersman.cli.spec import parse, read_duration_s
from steersman.kernel.clock import SystemClock


def arguments(server: str | None = None, token: str | None = None) -> argparse.Namespace:
    return argparse.Namespace(server=server, token=token)


def test_the_option_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def address(*words: str) -> str:
        with connect(parse(load("get"), ["nodes", *words])[1]) as plane:
            return plane.address

    monkeypatch.delenv("STEERSMAN_SERVER", raising=False)
    assert address() == "http://127.0.0.1:7440"
    monkeypatch.setenv("STEERSMAN_SERVER", "")
    assert address() == "http://127.0.0.1:7440"
    monkeypatch.setenv("STEERSMAN_SERVER", "http://127.0.0.1:1")
    assert address() == "http://127.0.0.1:1"
    assert address("--server", "http://127.0.0.1:2") == "http://127.0.0.1:2"


@pytest.mark.parametrize("command", ["up", "doctor"])
def test_the_configuration_may_be_named_by_a_variable(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_CONFIG", "a.yaml")
    assert parse(load(command), [])[1].config == "a.yaml"
    assert parse(load(command), ["-c", "b.yaml"])[1].config == "b.yaml"


@pytest.mark.parametrize(
    ("server", "token"), [("ftp://x", None), ("http://u:p@h", None), (None, "two words")]
)
def test_what_can_not_be_meant_is_wrong_usage(server: str | None, token: str | None) -> None:
    with pytest.raises(WrongUsage) as caught:
        connect(arguments(server, token))
    assert "u:p" not in caught.value.detail


def test_on_this_machine_nobody_is_asked_for_the_time() -> None:
    clock = SystemClock()
    with connect(arguments("http://127.0.0.1:9")) as plane:
        before = clock.now()
        assert before <= server_now(plane) <= clock.now()


def test_a_limit_ends_a_block_that_waits() -> None:
    with time_limit(0.05):
        signal.pause()
        pytest.fail("the block went on")


def test_timer_and_handler_are_as_before_afterwards() -> None:
    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    for limit_s in (None, 60.0):
        with time_limit(limit_s):
            pass
    assert signal.getsignal(signal.SIGALRM) == handler
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (timer[0] > 0)


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("1h30m", 5400), ("2", 2)])
def test_times_as_people_type_them(text: str, seconds: float) -> None:
    assert read_duration_s(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "0", "0s", "nan"])
def test_a_time_that_is_none_names_its_option(text: str) -> None:
    with pytest.raises(WrongUsage, match="--for"):
        read_duration_s(text, "--for")
