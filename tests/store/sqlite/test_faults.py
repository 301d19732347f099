"""Faults of the disk and of the file, made for real: each a typed error that names the file, nothing lost."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from steersman.kernel.clock import ManualClock
from steersman.kernel.ids import seeded_rng
from steersman.store.api import Put, StoreUnavailable
from steersman.store.sqlite import SqliteStore, schema
from steersman.store.sqlite.failures import (
    StoreCorrupt,
    StoreLocked,
    StoreMisplaced,
    StoreReadOnly,
    StoreTooNew,
)
from steersman.testing.store_expect import keys, put

FULL_DISK = Path(__file__).with_name("full_disk.py")
NOBODY = 65_534
NEWEST_SCHEMA = len(schema.migrations())


def make(path: Path) -> SqliteStore:
    return SqliteStore(path, clock=ManualClock(), rng=seeded_rng(0))


async def refusal(path: Path) -> StoreUnavailable:
    """How opening fails; the error names the file."""
    with pytest.raises(StoreUnavailable) as caught:
        async with make(path):
            pass
    assert str(path) in caught.value.detail
    assert caught.value.facts["file"] == str(path)
    return caught.value


async def fill(path: Path, commits: int = 200) -> None:
    async with make(path) as store:
        for number in range(commits):
            await put(store, f"k/{number:04d}", b"v" * 500)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".lock")}


# ---- places that can't be a store


async def test_no_such_folder(tmp_path: Path) -> None:
    error = await refusal(tmp_path / "no" / "store.db")
    assert isinstance(error, StoreMisplaced)
    assert "create it first" in error.detail
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_in_its_place(tmp_path: Path) -> None:
    assert isinstance(await refusal(tmp_path), StoreMisplaced)


async def test_a_pipe_in_its_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "store.db")
    assert isinstance(await refusal(tmp_path / "store.db"), StoreMisplaced)


async def test_another_programs_database(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (a)")
    db.commit()
    db.close()
    assert isinstance(await refusal(path), StoreMisplaced)


async def test_a_file_from_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await fill(path, 3)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {NEWEST_SCHEMA + 1}")
    db.close()
    error = await refusal(path)
    assert isinstance(error, StoreTooNew)
    assert error.facts["schema"] == error.facts["known"] + 1


# ---- damage


async def test_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is not a database, it is a note to myself\n" * 100)
    before = files(tmp_path)
    assert isinstance(await refusal(path), StoreCorrupt)
    assert files(tmp_path) == before, "nothing was changed or deleted"


async def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await fill(path)
    os.truncate(path, path.stat().st_size // 2)
    before = files(tmp_path)
    assert isinstance(await refusal(path), StoreCorrupt)
    assert files(tmp_path)["store.db"] == before["store.db"]


@pytest.mark.parametrize("seed", range(5))
async def test_overwritten_pages(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "store.db"
    await fill(path)
    data = bytearray(path.read_bytes())
    chance = random.Random(seed)
    for page in range(1, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = chance.randbytes(64)
    path.write_bytes(data)
    error = await refusal(path)
    assert isinstance(error, StoreCorrupt)
    assert "restore a copy" in error.detail
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "harm",
    [
        "INSERT INTO numbers VALUES ('strange', 1)",
        "DELETE FROM numbers",
        "UPDATE numbers SET value = 'x' WHERE name = 'epoch'",
        "INSERT INTO lease VALUES ('lease-1', 'x', 'y', 'z')",
        "DROP TABLE lease",
        "DROP TABLE log",
    ],
)
async def test_tables_changed_by_hand(tmp_path: Path, harm: str) -> None:
    """Whole for SQLite, nonsense for us: opening answers, and never hangs."""
    path = tmp_path / "store.db"
    await fill(path, 3)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(harm)
    db.close()
    error = await refusal(path)
    assert isinstance(error, StoreCorrupt)


async def test_damage_while_it_runs(tmp_path: Path) -> None:
    """`check` reads the file again, whatever is cached; the process lives on."""
    path = tmp_path / "store.db"
    await fill(path, 400)
    async with make(path) as store:
        with path.open("r+b") as file:
            file.seek(4096 * 5)
            file.write(os.urandom(4096 * 10))
        with pytest.raises(StoreCorrupt):
            await store.check()


async def test_an_old_write_ahead_log_cut_off_anywhere(tmp_path: Path) -> None:
    """The log's tail is what a crash leaves half written: the store opens with a whole number of commits."""
    path = tmp_path / "store.db"
    await fill(path, 5)
    async with make(path) as store:
        for number in range(40):
            await store.commit([], [Put(f"a/{number}", b"x" * 300), Put(f"b/{number}", b"y" * 300)])
        log = path.with_name("store.db-wal").read_bytes()
        base = path.read_bytes()
    chance = random.Random(7)
    for round_number in range(12):
        folder = tmp_path / f"{round_number}"
        folder.mkdir()
        (folder / "store.db").write_bytes(base)
        (folder / "store.db-wal").write_bytes(log[: chance.randrange(len(log))])
        async with make(folder / "store.db") as store:
            left, right = await keys(store, "a/"), await keys(store, "b/")
            assert [key[2:] for key in left] == [key[2:] for key in right], "half a commit"
            assert await store.revision() == 5 + len(left), "a gap"
            await put(store, "after")


# ---- other holders


async def test_opened_twice(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with make(path) as store:
        error = await refusal(path)
        assert isinstance(error, StoreLocked)
        assert error.facts["pid"] == os.getpid()
        await put(store, "a")
    async with make(path) as store:
        assert await keys(store) == ["a"]


async def test_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "store.db")
    async with make(tmp_path / "store.db"):
        assert isinstance(await refusal(tmp_path / "link.db"), StoreLocked)
    async with make(tmp_path / "link.db") as store:
        await put(store, "a")
        assert isinstance(await refusal(tmp_path / "store.db"), StoreLocked)


async def test_another_process_has_it(tmp_path: Path) -> None:
    """A worker holds the file; the refusal names its pid; once it was killed, the file is free."""
    path = tmp_path / "store.db"
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from steersman.kernel.clock import SystemClock; from steersman.kernel.ids import seeded_rng\n"
        "from steersman.store.sqlite import SqliteStore\n"
        "async def main():\n"
        "    async with SqliteStore(Path(sys.argv[1]), clock=SystemClock(), rng=seeded_rng(0)):\n"
        "        print('open', flush=True); await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        error = await refusal(path)
        assert isinstance(error, StoreLocked)
        assert error.facts["pid"] == holder.pid
        holder.kill()
    async with make(path) as store:
        await put(store, "a")


async def test_somebody_writes_with_the_sqlite_shell(tmp_path: Path) -> None:
    """A commit waits a little for them, then says so; reading goes on; afterwards all is well."""
    path = tmp_path / "store.db"
    async with make(path) as store:
        await put(store, "a")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked) as caught:
            await put(store, "b")
        assert caught.value.facts["outcome"] == "not_done"
        assert await keys(store) == ["a"]
        other.execute("ROLLBACK")
        other.close()
        assert await put(store, "b") == 2


# ---- permissions and full disks


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach; pytest's own are for their owner alone."""
    folder = Path(tempfile.mkdtemp(prefix="steersman-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it in a child that is not root, whoever runs the tests: permissions do not hold for root."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            asyncio.run(work())
            code = 0
        except BaseException:  # noqa: BLE001 - the child of a fork must never return into pytest
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0, "see the traceback above"


def give(path: Path, mode: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    path.chmod(mode)


def test_a_read_only_file(open_folder: Path) -> None:
    path = open_folder / "store.db"
    asyncio.run(fill(path, 3))
    for file in (open_folder, path, open_folder / "store.db.lock"):
        give(file, 0o755 if file.is_dir() else 0o400)

    async def work() -> None:
        error = await refusal(path)
        assert isinstance(error, StoreReadOnly), error

    as_nobody(work)


@pytest.mark.parametrize("exists", [True, False])
def test_a_read_only_folder(open_folder: Path, exists: bool) -> None:
    path = open_folder / "store.db"
    if exists:
        asyncio.run(fill(path, 3))
        (open_folder / "store.db.lock").unlink()
        give(path, 0o600)
    give(open_folder, 0o555)

    async def work() -> None:
        error = await refusal(path)
        assert isinstance(error, StoreReadOnly), error

    as_nobody(work)


def small_disk(folder: Path, program: list[str]) -> list[str]:
    """A command that runs the program with a file system of 4 MiB on the folder, seen by it alone.

    It needs root or user namespaces. Where neither is to be had the same checks run under a file size limit,
    which is what remains.
    """
    script = 'mount -t tmpfs -o size=4m,mode=700 tmpfs "$1" && shift && exec "$@"'
    for unshare in (["unshare", "-m"], ["unshare", "-r", "-m"]):
        command = [*unshare, "sh", "-c", script, "sh", str(folder)]
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True).returncode == 0
        ):
            return [*command, *program, "disk"]
    return [*program, "limit"]


@pytest.mark.parametrize("how", ["disk", "limit"])
def test_a_full_disk(tmp_path: Path, how: str) -> None:
    """Typed, nothing acknowledged is lost, reading goes on, and writing too as soon as there is space."""
    program = [sys.executable, str(FULL_DISK), str(tmp_path)]
    command = small_disk(tmp_path, program) if how == "disk" else [*program, "limit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok ")


# ---- what is left behind


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        async with make(tmp_path / "store.db") as store:
            await put(store, "a")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert modes == dict.fromkeys(["store.db", "store.db-wal", "store.db-shm", "store.db.lock"], 0o600)


async def test_closing_leaves_nothing_behind(tmp_path: Path) -> None:
    """No task, thread or descriptor; only the database and its lock file. Also after openings that failed."""

    def alive() -> tuple[int, int, int]:
        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd"))
        return len(asyncio.all_tasks()), threading.active_count(), descriptors

    path = tmp_path / "store.db"
    await fill(path, 1)
    before = alive()
    for _ in range(10):
        async with make(path) as store, store.watch("", 0) as events:
            await asyncio.gather(*(put(store, f"{n}") for n in range(10)))
            await anext(events)
            await put(store, "leased", lease=(await store.lease(10)).id)
            await refusal(path)
        await refusal(tmp_path)
        await refusal(tmp_path / "no" / "store.db")
    assert alive() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store.db", "store.db.lock"]


async def test_giving_up_while_it_opens(tmp_path: Path) -> None:
    """Cancelled at any moment of opening, it lets go of the file."""
    path = tmp_path / "store.db"
    await fill(path)
    before = threading.active_count()
    for turns in range(8):
        task = asyncio.ensure_future(make(path).__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            await task.result().close()
    async with make(path) as store:
        await put(store, "a")
    assert threading.active_count() == before
