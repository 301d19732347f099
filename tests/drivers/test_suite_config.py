"""The driver suite on the config driver: real files, a real folder and a real worktree; a git that fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from steersman.drivers.api import Driver, DriverContext
from steersman.drivers.config import ConfigDriver, ConfigOptions
from steersman.drivers.config.fake import FAULTS, FakeGit
from steersman.drivers.config.options import WatchedFolder, Worktree
from steersman.drivers.watch.options import WatchedFile
from steersman.kernel.secret import Secret
from steersman.testing.driver import DRIVER_CHECKS, Check, SystemUnderTest

SECRET = "hunter2-very-secret"


class Machine:
    """Configuration on this machine."""

    secrets = (SECRET,)
    faults: tuple[str, ...] = ()
    states: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "etc").mkdir()
        (folder / "etc" / "a.conf").write_text(f"password={SECRET}\n")
        self._tree = folder / "tree"
        subprocess.run(["git", "init", "-q", str(self._tree)], check=True)

    def driver(self, context: DriverContext) -> Driver:
        options = ConfigOptions(
            files=[WatchedFile(f"{self._folder}/etc/*.conf"), WatchedFile(f"{self._folder}/missing")],
            folders=[WatchedFolder(f"{self._folder}/etc")],
            worktrees=[Worktree(str(self._tree))],
            seal_key=Secret(SECRET),
        )
        return ConfigDriver(options, context)

    async def fail(self, fault: str) -> None:
        raise AssertionError(f"this machine can't show {fault}")

    async def mend(self) -> None:
        pass

    async def show(self, state: str) -> None:
        raise AssertionError(f"this machine can't be {state}")

    async def surprise(self) -> bool:
        os.mkfifo(self._folder / "etc" / "pipe.conf")
        (self._folder / "etc" / "b.conf").write_text("x" * 10)
        return False


class FailingGit(Machine):
    """One worktree, read by a git that fails."""

    faults = FAULTS

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.git = FakeGit(folder)

    def driver(self, context: DriverContext) -> Driver:
        options = ConfigOptions(worktrees=[Worktree(str(self._tree))], git=str(self.git.program))
        return ConfigDriver(options, context)

    async def fail(self, fault: str) -> None:
        await asyncio.to_thread(self.git.fail, fault)

    async def mend(self) -> None:
        await asyncio.to_thread(self.git.mend)


@pytest.mark.parametrize("made", [Machine, FailingGit])
@pytest.mark.parametrize("check", DRIVER_CHECKS, ids=lambda check: check.__name__)
async def test_configuration_of_this_machine(check: Check, made: type[Machine], tmp_path: Path) -> None:
    # Made in a thread: this one has the loop. There is one such thread, before threads are counted: a pool
    # would begin a second where the first has not yet said that it is free.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    machine = await asyncio.to_thread(made, tmp_path)

    @asynccontextmanager
    async def system() -> AsyncIterator[SystemUnderTest]:
        yield machine

    await check(system)
