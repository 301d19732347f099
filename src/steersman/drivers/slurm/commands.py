"""Slurm's own commands, read only: as JSON where this release has it, else as text; and whole looks by them.

`scontrol` has `--json` since 23.02, `sinfo` and `squeue` since 21.08 (`sinfo --json` gave nodes until 23.02,
and gives rows of nodes that are alike since). Which of them works is found out once for each list, by the
command's complaint, and remembered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from steersman.drivers.api import DriverContext, SourceError
from steersman.drivers.lane import Lane
from steersman.drivers.program import Ran, run_program
from steersman.drivers.slurm import shapes, text
from steersman.drivers.slurm.options import SlurmOptions
from steersman.drivers.slurm.picture import Listing, Picture
from steersman.kernel.bounds import MIB
from steersman.kernel.redact import redact_text

T = TypeVar("T")

SMALL_MAX_BYTES = 4 * MIB
"""What a command that tells of no list may write."""
_KEPT = ("PATH", "SLURM_CONF", "HOME", "KRB5CCNAME")
"""Of our own environment; the rest of SLURM_* would change what the commands do."""

_JSON_LISTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "nodes": (("scontrol", "--json", "show", "nodes"), ("sinfo", "--json")),
    "jobs": (("scontrol", "--json", "show", "jobs"), ("squeue", "--json")),
    "partitions": (("scontrol", "--json", "show", "partitions"),),
    "reservations": (("scontrol", "--json", "show", "reservations"),),
}
_TEXT_LISTS: dict[str, tuple[str, ...]] = {
    "nodes": ("scontrol", "-a", "-d", "-o", "show", "node"),
    "jobs": ("scontrol", "-a", "-d", "-o", "show", "job"),
    "partitions": ("scontrol", "-a", "-o", "show", "partition"),
    "reservations": ("scontrol", "-a", "-o", "show", "reservation"),
}
_JSON_READERS: dict[str, Callable[[shapes.Said], Listing[Any]]] = {
    "nodes": shapes.nodes_of,
    "jobs": shapes.jobs_of,
    "partitions": shapes.partitions_of,
    "reservations": shapes.reservations_of,
}
_TEXT_READERS: dict[str, Callable[[str], Listing[Any]]] = {
    "nodes": text.read_nodes,
    "jobs": text.read_jobs,
    "partitions": text.read_partitions,
    "reservations": text.read_reservations,
}
_NO_OPTION = ("unrecognized option", "invalid option", "unknown option")


class CommandCluster:
    """One cluster by its commands."""

    def __init__(self, options: SlurmOptions, context: DriverContext) -> None:
        self._options = options
        self._clock = context.clock
        self._lane = Lane(f"{context.source}-slurm-commands", "reading the output of Slurm's commands")
        self._ways: dict[str, tuple[str, ...]] = {}
        self._shown: dict[str, bool] = {}
        self._env = {name: value for name in _KEPT if (value := os.environ.get(name)) is not None}
        self._env |= {
            "TZ": "UTC",
            "LC_ALL": "C",
            "SLURM_TIME_FORMAT": "standard",
            "SLURM_BITSTR_LEN": "0",  # tasks of an array are not cut short
        }
        if options.slurm_conf:
            self._env["SLURM_CONF"] = options.slurm_conf
        if options.token is not None:
            self._env["SLURM_JWT"] = options.token.reveal()

    @property
    def place(self) -> str:
        """Where the commands are."""
        return f"Slurm's commands in {self._options.bin}" if self._options.bin else "Slurm's commands"

    def forget(self) -> None:
        """Each look asks for everything as it is."""

    async def look(self, timeout_s: float) -> Picture:
        """A whole look. Raises `SourceError` where the first list can't be had."""
        until = self._clock.monotonic() + timeout_s
        picture = Picture()
        first = True
        for name in ("nodes", "jobs", "partitions", "reservations"):
            if name not in self._options.watch:
                continue
            try:
                setattr(picture, name, await self._list(name, until))
            except SourceError as error:
                if first:
                    raise
                picture.warnings.append(f"{name} are missing: {error.detail}")
            first = False
        if "controller" in self._options.watch:
            await self._controller(picture, until, alone=first)
        return picture

    async def show(self, name: str, word: str, timeout_s: float, absent: tuple[str, ...]) -> Listing[Any]:
        """One thing, or all of a kind where `word` is empty; none where the complaint has one of `absent`.
        Raises `SourceError`."""
        until = self._clock.monotonic() + timeout_s
        ways = self._candidates_for(name, word)
        for index, argv in enumerate(ways):
            ran = await self.run_command(argv, self._left(until), self._options.max_bytes)
            if ran.exit_code != 0:
                said = f"{ran.stderr} {ran.stdout[:4096].decode(errors='replace')}".lower()
                if any(words in said for words in absent):
                    return Listing()
                if index + 1 < len(ways) and _no_such_option(ran):
                    continue
                raise SourceError(
                    f"{argv[0]} ended with exit code {ran.exit_code}: {redact_text(said.strip()[:300])}"
                )
            self._shown[name] = "--json" in argv
            return await self._lane.run(self._reader(name, argv, ran.stdout), self._left(until))
        raise SourceError(f"no command tells of one of {name} as {self._options.output}")

    def _candidates_for(self, name: str, word: str) -> list[tuple[str, ...]]:
        """scontrol for one thing: as JSON where it has it."""
        words = (word,) if word else ()
        ways: list[tuple[str, ...]] = []
        if self._options.output != "text" and self._shown.get(name, True):
            ways.append((*_JSON_LISTS[name][0], *words))
        if self._options.output != "json" and not self._shown.get(name, False):
            ways.append((*_TEXT_LISTS[name], *words))
        return ways

    async def scontrol(self, *words: str, timeout_s: float) -> Ran:
        """`scontrol` with these words. Any exit code is an answer. Raises `SourceError`."""
        return await self.run_command(("scontrol", *words), timeout_s, SMALL_MAX_BYTES)

    async def run_command(self, argv: Sequence[str], timeout_s: float, max_bytes: int) -> Ran:
        """One of Slurm's commands, by its name."""
        program = os.path.join(self._options.bin, argv[0]) if self._options.bin else argv[0]
        return await run_program(
            [program, *argv[1:]], env=self._env, timeout_s=timeout_s, max_bytes=max_bytes
        )

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """Do some work on what was read in this cluster's thread."""
        return await self._lane.run(work, timeout_s)

    async def close(self) -> None:
        """End the thread. Repeating it does nothing."""
        await self._lane.close()

    # ---- inside

    async def _list(self, name: str, until: float) -> Listing[Any]:
        ways = self._candidates(name)
        for index, argv in enumerate(ways):
            ran = await self.run_command(argv, self._left(until), self._options.max_bytes)
            if ran.exit_code != 0 and index + 1 < len(ways) and _no_such_option(ran):
                continue
            if ran.exit_code != 0:
                raise SourceError(
                    f"{argv[0]} ended with exit code {ran.exit_code}: {redact_text(ran.stderr[:300])}"
                )
            read = self._reader(name, argv, ran.stdout)
            listing = await self._lane.run(read, self._left(until))
            self._ways[name] = argv
            return listing
        raise SourceError(f"no command tells of {name} as {self._options.output}")

    def _candidates(self, name: str) -> tuple[tuple[str, ...], ...]:
        if name in self._ways:
            return (self._ways[name],)
        if self._options.output == "text":
            return (_TEXT_LISTS[name],)
        if self._options.output == "json":
            return _JSON_LISTS[name]
        return (*_JSON_LISTS[name], _TEXT_LISTS[name])

    def _reader(self, name: str, argv: tuple[str, ...], output: bytes) -> Callable[[], Listing[Any]]:
        def read_json() -> Listing[Any]:
            try:
                said = shapes.read_said(output)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise SourceError(f"{argv[0]} --json wrote another shape: {str(error)[:200]}") from None
            if getattr(said, name) is None and said.sinfo is None:
                told = "; ".join(shapes.faults(said)) or "another shape"
                raise SourceError(f"{argv[0]} --json wrote no {name}: {told}")
            listing = _JSON_READERS[name](said)
            listing.warnings += shapes.faults(said)
            return listing

        def read_text() -> Listing[Any]:
            said = output.decode(errors="replace")
            listing = _TEXT_READERS[name](said)
            if not listing.items and said.strip() and not said.lstrip().lower().startswith("no "):
                raise SourceError(f"{argv[0]} wrote no {name}: {redact_text(said.strip()[:80])!r}")
            return listing

        return read_json if "--json" in argv else read_text

    async def _controller(self, picture: Picture, until: float, *, alone: bool) -> None:
        told: list[str] = []
        for argv in (("scontrol", "--version"), ("scontrol", "ping"), ("sdiag",)):
            try:
                ran = await self.run_command(argv, self._left(until), SMALL_MAX_BYTES)
                told.append(ran.stdout.decode(errors="replace"))
            except SourceError as error:
                if alone:
                    raise
                told.append("")
                picture.warnings.append(f"{' '.join(argv)}: {error.detail}")
        picture.controller = text.read_controller(*told)

    def _left(self, until: float) -> float:
        left = until - self._clock.monotonic()
        if left <= 0:
            raise SourceError(f"{self.place} gave no whole answer in time")
        return left


def _no_such_option(ran: Ran) -> bool:
    said = ran.stderr.lower()
    return any(word in said for word in _NO_OPTION)
