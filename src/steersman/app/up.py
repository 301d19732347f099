"""`steersman up`: one process that holds everything, in the order that decision 0020 gives and explains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from steersman.app.place import (
    load_settings,
    own_version,
    prepare_folder,
    program_name,
    require_auth,
    shown_path,
)
from steersman.kernel.clock import Clock, SystemClock, using_clock
from steersman.kernel.errors import SteersmanError
from steersman.kernel.ids import Rng, SortableIds, system_rng
from steersman.kernel.logging import configure, get_logger
from steersman.kernel.tasks import ALWAYS, Supervisor
from steersman.kinds.settings import Settings, state_folder

if TYPE_CHECKING:
    from steersman.api.serving import HttpServer
    from steersman.app.acting import Acting
    from steersman.observe.inlet import Inlet
    from steersman.observe.intake import Intake
    from steersman.observe.registry import Source
    from steersman.state.bus import StateBus
    from steersman.state.checkpoint import Checkpoint
    from steersman.store.api import Store

CHECKPOINT_TIMEOUT_S = 5.0
HTTP_STOP_TIMEOUT_S = 8.0
"""A little over what the server itself gives to answers that are under way."""
THREADS_TIMEOUT_S = 5.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HISTORY_KEEP_S = 60.0
HISTORY_REVISIONS_MAX = 10_000
"""How much of the store's history is kept. All who watch it live in this process and are never further
behind; each checkpoint of a large fleet is tens of megabytes that would otherwise stay."""

_log = get_logger("app")


def run_up(
    config: Path | None, announce: Callable[[str], None], *, host: str | None = None, port: int | None = None
) -> int:
    """`steersman up`: run the plane until a signal ends it; the exit code. `announce` tells a person."""
    from steersman.api.listening import listen

    settings = load_settings(config, os.environ, host=host, port=port)
    require_auth(settings)
    folder = state_folder(os.environ)
    prepare_folder(folder)
    url = settings.store_url(folder, config)
    _raise_file_limit()
    with listen(settings.server.host, settings.server.port) as listener:
        runner = _runner()
        try:
            runner.run(run_plane(settings, url, folder, listener, announce))
        finally:
            with _ended_by_force():
                runner.close()
    return 0


def _raise_file_limit() -> None:
    """Allow this process all the open files it may have: each stream and connection is one, and the soft
    limit of a shell (1,024) is below the streams that `server.streams_max` promises."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:  # some systems cap it below the hard limit they tell
            _log.warning("file_limit_kept", soft=soft, hard=hard, error=str(error))


def _runner() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # it has no build for this interpreter; the standard loop does the same, more slowly
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


@contextlib.contextmanager
def _ended_by_force() -> Generator[None]:
    """End the process where the block takes longer than `THREADS_TIMEOUT_S`.

    Closing the loop waits for its worker threads, and Python can't end a thread that blocks (a read from a
    dead network disk). By then all that must be remembered is on the disk.
    """

    def give_up(_number: int, _frame: object) -> None:
        os.write(2, b"error: threads of this process block and would not end; it was ended without them\n")
        os._exit(1)

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, THREADS_TIMEOUT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def run_plane(
    settings: Settings,
    store_url: str,
    folder: Path,
    listener: socket.socket,
    announce: Callable[[str], None],
) -> None:
    """One process that holds everything: store, bus, intake, API. Returns after a clean stop.

    Intake starts last, so that the first answer waits for no source. The stop is the reverse of the start.
    Raises `SteersmanError` where a part can't start, or has failed for good while it ran.
    """
    from steersman.observe.registry import make_sources
    from steersman.state.health.override import use_health_files
    from steersman.store.open import open_store

    clock, rng = SystemClock(), system_rng()
    with using_clock(clock), _stop_signals() as stop:
        restore_logs = configure(clock=clock, level=settings.log.level, fmt=settings.log.format)
        try:
            use_health_files(settings.health)
            sources = make_sources(settings.sources, clock=clock, rng=rng)
            async with open_store(store_url, clock=clock, rng=rng) as store:
                process = _Process(settings, folder, clock, rng, store, store_url.partition(":")[0])
                await process.run(sources, listener, stop, announce)
        except Exception as error:
            if not isinstance(error, SteersmanError):  # those are told as they are; this is a fault of ours
                _log.error("crashed", exc_info=error)
            raise
        finally:
            restore_logs()


class _Process:
    """The parts of one running plane, and the order in which they start and stop."""

    def __init__(
        self, settings: Settings, folder: Path, clock: Clock, rng: Rng, store: Store, store_name: str
    ) -> None:
        self.settings = settings
        self.store_name = store_name
        self.folder = folder
        self.clock = clock
        self.rng = rng
        self.store = store
        self.started_at = clock.now()
        self.acting: Acting | None = None

    async def run(
        self,
        sources: list[Source],
        listener: socket.socket,
        stop: asyncio.Event,
        announce: Callable[[str], None],
    ) -> None:
        """Start, serve until `stop` is set or a part fails, stop. Each step of the stop is made, whatever
        became of the one before it."""
        bus, checkpoint = await self._open_bus()
        try:
            async with Supervisor(self.clock, self.rng, name="plane") as tasks:
                http = await self._start_parts(tasks, bus, checkpoint, sources, listener)
                try:
                    await self._first_of(tasks, http.started(), stop.wait())
                    if not stop.is_set():
                        announce(self._greeting(http.port))
                    await self._first_of(tasks, stop.wait())
                finally:
                    await self._stop_http(http)
                    await self._stop_acting()
        finally:
            await self._last_checkpoint(checkpoint)

    async def _start_parts(
        self,
        tasks: Supervisor,
        bus: StateBus,
        checkpoint: Checkpoint,
        sources: list[Source],
        listener: socket.socket,
    ) -> HttpServer:
        """Start everything in order; a new part has its place here. They are stopped newest first."""
        from steersman.observe.inlet import Inlet
        from steersman.store.retention import KeepHistory, Retention

        record = self.settings.record.file
        # What is managed is known before names are read back: a name that a resource bears stays.
        self.acting = acting = await self._open_acting(bus, tasks, sources)
        inlet = Inlet(bus, self.clock, self.settings.identity, acting.is_managed)
        intake = self._make_intake(inlet, sources)
        http = await self._open_http(inlet, intake, acting, tasks, listener)
        tasks.start("bus", bus.pump, ALWAYS)
        acting.start(tasks)
        tasks.start("http", http.run)
        tasks.start("checkpoint", partial(checkpoint.run, self.settings.checkpoint.interval), ALWAYS)
        history = KeepHistory(keep_s=HISTORY_KEEP_S, keep_revisions=HISTORY_REVISIONS_MAX)
        tasks.start("retention", Retention(self.store, history, clock=self.clock).run, ALWAYS)
        if record is not None:
            tasks.start("recorder", partial(self._record, inlet, record))
        tasks.start("intake", intake.run, ALWAYS)
        return http

    async def _stop_http(self, http: HttpServer) -> None:
        """Goodbye to streams, an end to answers. A server that will not end holds up nothing else."""
        try:
            async with asyncio.timeout(HTTP_STOP_TIMEOUT_S):
                await http.stop()
        except TimeoutError:
            _log.error("http_not_ended", timeout_s=HTTP_STOP_TIMEOUT_S)

    async def _stop_acting(self) -> None:
        """Let those who are told of events be told no further, and write down how far they are."""
        try:
            async with asyncio.timeout(CHECKPOINT_TIMEOUT_S):
                if self.acting is not None:
                    await self.acting.stop()
        except (SteersmanError, TimeoutError) as error:
            _log.error("deliveries_not_ended", detail=str(error))

    async def _first_of(self, tasks: Supervisor, *events: Coroutine[None, None, object]) -> None:
        """Return when one of the events comes. Raises what a part of the plane failed with."""
        waits = [tasks.spawn("wait", event) for event in (*events, tasks.wait())]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in waits:
                task.cancel()

    async def _open_bus(self) -> tuple[StateBus, Checkpoint]:
        from steersman.state.bus import StateBus
        from steersman.state.checkpoint import Checkpoint
        from steersman.state.limits import BusLimits
        from steersman.state.revisions import RevisionBlocks

        kept = self.settings.retention
        limits = BusLimits(tombstone_ttl_s=kept.tombstones, tombstones_max=kept.tombstones_max)
        revisions = RevisionBlocks(self.store)
        bus = StateBus(self.clock, limits=limits, first_revision=await revisions.open())
        bus.grant_revisions(revisions.ceiling)
        checkpoint = Checkpoint(bus, self.store, self.clock, revisions=revisions)
        report = await checkpoint.restore()
        if report.entities or report.tombstones:
            _log.info("state_restored", entities=report.entities, tombstones=report.tombstones)
            gc.freeze()  # it stays: a collection need not walk it each time (22 ms for 112,500 entities)
        return bus, checkpoint

    def _make_intake(self, inlet: Inlet, sources: list[Source]) -> Intake:
        from steersman.observe.intake import Intake

        concurrency = self.settings.intake.concurrency
        return Intake(inlet, sources, clock=self.clock, rng=self.rng, concurrency=concurrency)

    async def _open_acting(self, bus: StateBus, tasks: Supervisor, sources: list[Source]) -> Acting:
        from steersman.app.acting import open_acting

        return await open_acting(
            self.settings,
            self.folder,
            self.store,
            bus,
            tasks,
            clock=self.clock,
            rng=self.rng,
            ids=SortableIds(self.clock, self.rng),
            sources=sources,
        )

    async def _open_http(
        self, inlet: Inlet, intake: Intake, acting: Acting, tasks: Supervisor, listener: socket.socket
    ) -> HttpServer:
        from steersman.api.access import bootstrap_admin, require_safe_bind
        from steersman.api.auth import Tokens
        from steersman.api.plane import Plane
        from steersman.api.server import build_asgi
        from steersman.api.serving import HttpServer
        from steersman.api.settings import ApiSettings
        from steersman.state.ledger.guard import GuardedStore

        ids = SortableIds(self.clock, self.rng)
        settings = ApiSettings(server=self.settings.server, auth=self.settings.auth)
        guarded = GuardedStore(self.store)  # the API reads resources, and asks the Ledger to change them
        tokens = Tokens(guarded, self.clock, ids)
        await tokens.load()
        await bootstrap_admin(tokens, self.folder)
        require_safe_bind(settings, tokens)
        plane = Plane(
            bus=inlet.bus,
            inlet=inlet,
            store=guarded,
            clock=self.clock,
            ids=ids,
            supervisor=tasks,
            tokens=tokens,
            version=own_version(),
            started_at=self.started_at,
            settings=settings,
            store_name=self.store_name,
            intake_sources=intake.snapshot,
            intake_failures=intake.failures,
            control=acting.control(),
            tail=acting.tail,
            deliveries=acting.deliveries,
        )
        return HttpServer(build_asgi(plane), settings.server, listener)

    async def _record(self, inlet: Inlet, file: Path) -> None:
        """Record from the start on. A recording that can't be written is told, and stops nothing else."""
        from steersman.observe.recording import Recorder, RecordingUnwritable

        recorder = Recorder(
            inlet, self.clock, file, program=program_name(), queue_max=self.settings.record.queue_max
        )
        try:
            await recorder.run()
        except RecordingUnwritable as error:
            _log.error("not_recorded", file=str(file), detail=error.detail)

    async def _last_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write down what must be remembered. Where the store can't take it, the log says so."""
        try:
            async with asyncio.timeout(CHECKPOINT_TIMEOUT_S):
                await checkpoint.save()
        except (SteersmanError, TimeoutError) as error:
            _log.error("last_checkpoint_failed", detail=str(error))

    def _greeting(self, port: int) -> str:
        """Where everything is, for the person who started it."""
        from steersman.api.listening import url_of

        url = url_of(self.settings.server.host, port)
        lines = [
            f"Steersman {own_version()} is up; Ctrl-C stops it.",
            f"  dashboard  {url}/",
            f"  API        {url}/api/v1   described by {url}/openapi.json",
            f"  docs       {_docs()}",
            f"  state      {shown_path(self.folder)}",
        ]
        if self.settings.auth.tokens:
            token = shown_path(self.folder / "admin.token")
            lines.append(f"  token      every caller needs one; the first is in {token}")
        return "\n".join(lines)


@contextlib.contextmanager
def _stop_signals() -> Generator[asyncio.Event]:
    """An event that the first SIGINT, SIGTERM or SIGHUP sets; a second one ends the process at once.

    SIGHUP is a stop as well: it is what a closed terminal sends. What is committed is safe in either case.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        _log.info("stopping", signal=number.name)
        stop.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stop
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


def _docs() -> str:
    """Where the documentation is: beside the source in a checkout; otherwise the help pages."""
    page = Path(__file__).parents[3] / "docs" / "tutorials" / "first-steps.md"
    if not page.is_file():
        return "steersman --help"
    return str(page.relative_to(Path.cwd())) if page.is_relative_to(Path.cwd()) else shown_path(page)
