"""slurmrestd: which versions of its API it has, and a whole look at the cluster by the newest shared one.

Lists are asked for one after the other, because slurmctld works on one at a time anyway. Where an answer
said when its list last changed, the next request names that time; what comes back may then be "no change".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from steersman.drivers.api import DriverContext, SourceError
from steersman.drivers.lane import Lane
from steersman.drivers.slurm import shapes
from steersman.drivers.slurm.options import API_VERSIONS, SlurmOptions
from steersman.drivers.slurm.picture import Listing, Picture
from steersman.drivers.web.client import Answer
from steersman.kernel.bounds import KIB, MIB

T = TypeVar("T")

INLINE_MAX_BYTES = 64 * KIB
"""A larger answer is read in a thread: a node takes some 3 KB, a job 6 to 9 KB."""
OPENAPI_MAX_BYTES = 32 * MIB
"""The description of all versions that a slurmrestd has; that of 25.05 has a few MB."""

_PASSING = frozenset({1001, 2016, 2020, 2027, 2057})
# slurm_errno.h: no connection to slurmctld, nodes busy, a state in transition, a standby controller, a
# reservation in use.
_VERSION = re.compile(r"^/slurm/(v0\.0\.\d{2,3})/")


class SlurmRefused(SourceError):
    """Slurm answered, and the answer is no. `number` is its error's (slurm_errno.h), None where none was
    told; `http_status` is slurmrestd's."""

    code = "slurm_refused"
    title = "Slurm refused"

    def __init__(self, detail: str, *, number: int | None = None, http_status: int = 0) -> None:
        super().__init__(detail, number=number, status=http_status)
        self.number = number
        self.http_status = http_status

    @property
    def passing(self) -> bool:
        """Whether another attempt may help, and nothing was changed by this one."""
        return self.number in _PASSING or self.http_status == 401  # a token is renewed

    @property
    def lost(self) -> bool:
        """Whether slurmctld did not answer whom we asked, so that it may have done it all the same."""
        if self.number is None:
            return self.http_status >= 500
        return (1000 <= self.number < 1100 and not self.passing) or 5000 <= self.number < 5100


class _OpenApi(Struct):
    paths: dict[str, msgspec.Raw] = {}


class RestCluster:
    """One slurmrestd. `version` is the API's version in use, empty before the first probe."""

    def __init__(self, options: SlurmOptions, context: DriverContext) -> None:
        self._options = options
        self._clock = context.clock
        self._web = options.open_client(context.clock)
        self._lane = Lane(f"{context.source}-slurm", f"reading the answer of {self._web.place}")
        self._kept: dict[str, Listing[Any]] = {}
        self.version = ""
        self.newer: tuple[str, ...] = ()
        """Versions that it has and this driver does not know."""

    @property
    def place(self) -> str:
        """Where it is, as it may be shown."""
        return self._web.place

    def forget(self) -> None:
        """Ask for everything next time: what was seen last is not kept."""
        self._kept.clear()

    async def look(self, timeout_s: float) -> Picture:
        """A whole look. Raises `SourceError` where the first list can't be had; what else can't be had is
        missing, and a warning says so."""
        until = self._clock.monotonic() + timeout_s
        known = bool(self.version)
        if not known:
            await self.probe(timeout_s)
        watch = self._options.watch
        picture = Picture()
        reads: list[tuple[str, str, Callable[[shapes.Said], Listing[Any]]]] = [
            ("nodes", "nodes", shapes.nodes_of),
            ("jobs", "jobs", shapes.jobs_of),
            ("partitions", "partitions", shapes.partitions_of),
            ("reservations", "reservations", shapes.reservations_of),
        ]
        first = True
        for name, path, read in reads:
            if name not in watch:
                continue
            try:
                listing = await self._list(name, path, read, until, again=first and known)
            except SourceError as error:
                if first:
                    raise
                picture.warnings.append(f"{name} are missing: {error.detail}")
            else:
                setattr(picture, name, listing)
            first = False
        if "controller" in watch:
            await self._controller(picture, until, alone=first)
        return picture

    async def probe(self, timeout_s: float) -> str:
        """Find the newest version that both sides know: by the description of its API, else by trying.
        Raises `SourceError`."""
        if self._options.api != "auto":
            self.version = self._options.api
            return self.version
        until = self._clock.monotonic() + timeout_s
        answer = await self._web.get("/openapi/v3", timeout_s=timeout_s)
        self._refused(answer)
        theirs: set[str] = set()
        if answer.status == 200 and len(answer.body) <= OPENAPI_MAX_BYTES:
            theirs = await self._read(answer, _versions_of, until)
        if theirs:
            self.newer = tuple(sorted(version for version in theirs if version > API_VERSIONS[0]))
            for version in API_VERSIONS:
                if version in theirs:
                    self.version = version
                    return version
            raise SourceError(
                f"{self.place} speaks {', '.join(sorted(theirs))}; this driver knows "
                f"{API_VERSIONS[-1]} to {API_VERSIONS[0]}"
            )
        for version in API_VERSIONS:
            answer = await self._web.get(f"/slurm/{version}/ping", timeout_s=self._left(until))
            self._refused(answer)
            if answer.status == 200:
                self.version = version
                return version
            if answer.status not in (404, 405):
                answer.expect()
        raise SourceError(f"{self.place} speaks none of {API_VERSIONS[-1]} to {API_VERSIONS[0]}")

    async def ask(
        self, method: str, path: str, *, timeout_s: float, body: Mapping[str, Any] | None = None
    ) -> Answer:
        """One request below `/slurm/VERSION`, as it is answered. Raises `SourceError`."""
        if not self.version:
            await self.probe(timeout_s)
        answer = await self._web.ask(
            method,
            f"/slurm/{self.version}{path}",
            timeout_s=timeout_s,
            headers={"Content-Type": "application/json"} if body is not None else None,
            body=msgspec.json.encode(body) if body is not None else None,
        )
        self._refused(answer)
        return answer

    async def close(self) -> None:
        """Close connections and the thread. Repeating it does nothing."""
        try:
            await self._web.close()
        finally:
            await self._lane.close()

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """Do some work on what was read in this cluster's thread."""
        return await self._lane.run(work, timeout_s)

    # ---- inside

    async def _list(
        self,
        name: str,
        path: str,
        read: Callable[[shapes.Said], Listing[Any]],
        until: float,
        *,
        again: bool,
    ) -> Listing[Any]:
        kept = self._kept.get(name)
        answer = await self._get(f"/{path}", until, kept.last_update if kept is not None else None)
        if answer.status == 404 and again:  # the server was upgraded, and this version removed
            self.version = ""
            self.forget()
            kept = None
            await self.probe(self._left(until))
            answer = await self._get(f"/{path}", until, None)
        if answer.status == 304:
            listing = Listing[Any](unchanged=True)
        else:
            listing = await self._read(answer, lambda found: _listing(found, read, name), until)
        if listing.unchanged:
            if kept is None:
                raise SourceError(f"{answer.place} says that nothing changed, and was not asked so")
            return msgspec.structs.replace(kept, unchanged=True)
        if listing.last_update:
            self._kept[name] = listing
        return listing

    async def _get(self, path: str, until: float, since: int | None) -> Answer:
        answer = await self._web.get(
            f"/slurm/{self.version}{path}",
            timeout_s=self._left(until),
            params={"update_time": str(since)} if since is not None else None,
        )
        self._refused(answer)
        return answer

    async def _controller(self, picture: Picture, until: float, *, alone: bool) -> None:
        found: dict[str, shapes.Said] = {}
        for name in ("ping", "diag"):
            try:
                answer = (await self._get(f"/{name}", until, None)).expect()
                found[name] = await self._read(answer, _said, until)
            except SourceError as error:
                if alone:
                    raise
                picture.warnings.append(f"{name} is missing: {error.detail}")
        picture.controller = shapes.controller_of(found.get("ping"), found.get("diag"))

    async def _read(self, answer: Answer, read: Callable[[Answer], T], until: float) -> T:
        if len(answer.body) <= INLINE_MAX_BYTES and not self._lane.busy:
            return read(answer)
        return await self._lane.run(lambda: read(answer), self._left(until))

    def _left(self, until: float) -> float:
        left = until - self._clock.monotonic()
        if left <= 0:
            raise SourceError(f"{self.place} gave no whole answer in time")
        return left

    def _refused(self, answer: Answer) -> None:
        if answer.status in (401, 403):
            raise SlurmRefused(
                f"{answer.place} refused our user or token (status {answer.status})",
                http_status=answer.status,
            )


def _versions_of(answer: Answer) -> set[str]:
    found: _OpenApi = answer.json(_OpenApi)
    return {match.group(1) for path in found.paths if (match := _VERSION.match(path)) is not None}


def _said(answer: Answer) -> shapes.Said:
    try:
        return shapes.read_said(answer.body)
    except msgspec.ValidationError as error:
        raise SourceError(f"{answer.place} answered JSON of another shape: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SourceError(f"{answer.place}: its answer is not JSON ({len(answer.body)} bytes)") from None


def _listing(answer: Answer, read: Callable[[shapes.Said], Listing[Any]], name: str) -> Listing[Any]:
    """The list of an answer. Errors that it tells count where it has no list."""
    if answer.status != 200:
        told = ""
        try:
            told = "; ".join(shapes.faults(_said(answer)))
        except SourceError:
            pass
        raise SourceError(
            f"{answer.place} answered status {answer.status}; expected 200{told and f' ({told})'}"
        )
    said = _said(answer)
    listing = read(said)
    told = shapes.faults(said)
    there = getattr(said, name) is not None
    if not listing.unchanged and (not there or (told and not listing.items)):
        raise SourceError(f"{answer.place} answered without {name}: {'; '.join(told) or 'another shape'}")
    listing.warnings += told
    return listing
