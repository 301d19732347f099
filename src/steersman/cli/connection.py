"""From the options of a command to a client, and what time it is over there."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from steersman.cli.exits import WrongUsage
from steersman.kernel.clock import SystemClock
from steersman.kernel.errors import InvalidInput

if TYPE_CHECKING:
    from steersman.client import Steersman

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def connect(arguments: argparse.Namespace) -> Steersman:
    """The client for `--server` and `--token` (which the parser takes from their variables, too)."""
    from steersman.client import DEFAULT_SERVER, Steersman

    try:
        return Steersman(arguments.server or DEFAULT_SERVER, token=arguments.token or None)
    except InvalidInput as error:  # the address or the token can't be what was meant: nothing was asked yet
        raise WrongUsage(error.detail) from None


def server_now(plane: Steersman) -> datetime:
    """The time by which ages are shown: the server's, for the stamps are by its clock.

    On this machine both are one clock and nobody is asked.
    """
    if urlsplit(plane.address).hostname in LOCAL_HOSTS:
        return SystemClock().now()
    return plane.status().now


class _TimeUp(BaseException):
    """The limit was reached. No Exception: nothing between the timer and `time_limit` may take it for one."""


@contextmanager
def time_limit(limit_s: float | None) -> Generator[None]:
    """Leave the block after `limit_s` (None: never), also out of a blocking read.

    By the interval timer's signal: a read that waits in another thread could not be ended.
    """
    if limit_s is None:
        yield
        return

    def up(_number: int, _frame: FrameType | None) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, up)
    timer_before = signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    except _TimeUp:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer_before)
