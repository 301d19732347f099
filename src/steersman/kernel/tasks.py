"""Tasks and threads that somebody owns.

No task is born outside a `Supervisor`, so that each has a name, somebody who notices when it dies, and a
moment by which it has ended. A bare `asyncio.create_task` has none of these: its error is printed when the
garbage collector comes by, if ever.

Cancellation is never swallowed here. A CancelledError that nobody asked for (a task that awaited something
another party cancelled) is a failure like any other; it does not end a service silently.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from msgspec import Struct

from steersman.kernel.clock import Clock
from steersman.kernel.errors import SteersmanError, TimedOut, TooMany, Unavailable
from steersman.kernel.ids import Rng
from steersman.kernel.logging import get_logger
from steersman.kernel.redact import error_text
from steersman.kernel.retry import Backoff

T = TypeVar("T")

STOP_TIMEOUT_S = 10.0
"""How long leaving a supervisor's context waits for its tasks."""

SPAWNED_MAX = 10_000
"""Short units that may live at once in one supervisor."""

THREAD_JOIN_TIMEOUT_S = 10.0

_log = get_logger("kernel.tasks")


class TaskFailed(SteersmanError):
    """A supervised task has died and may not be started again. `facts`: `task`, `error`."""

    code = "task_failed"
    title = "A task of the program failed"


class TasksLeft(TimedOut):
    """Tasks or threads did not end by their deadline although they were told to. `facts`: `tasks`."""

    code = "tasks_left"
    title = "Tasks would not end"


class Stopping(Unavailable):
    """New work was offered to a supervisor that stops."""

    code = "stopping"
    title = "Stopping"


class Restart(Struct, frozen=True):
    """Whether and how a task that died is started again.

    The wait grows from `first_delay_s` to `max_delay_s` with the restarts of the last `window_s`; more than
    `max_restarts` of them in that window and the task stays dead. None is no limit: for what must be tried
    for as long as the program runs.
    """

    on_failure: bool = True
    first_delay_s: float = 1.0
    max_delay_s: float = 60.0
    max_restarts: int | None = 10
    window_s: float = 600.0

    def backoff(self) -> Backoff:
        """The waits as a `Backoff`."""
        return Backoff(first_s=self.first_delay_s, max_s=max(self.first_delay_s, self.max_delay_s))


NEVER = Restart(on_failure=False)
"""A task whose death is the supervisor's failure."""

ALWAYS = Restart(max_restarts=None)
"""A task that is tried for as long as the program runs."""

RUNNING, WAITING, ENDED, FAILED, STUCK = "running", "waiting", "ended", "failed", "stuck"


class TaskSnapshot(Struct, frozen=True):
    """A task as /readyz and doctor show it.

    `state`: running; waiting (for its restart); ended (returned, or was stopped); failed (for good); stuck
    (told to end, and did not). `since_s` is how long it has been so; `restarts` counts since the start.
    """

    name: str
    state: str
    since_s: float
    restarts: int = 0
    last_error: str = ""


class _Entry:
    """One started task: what it runs and how it fares."""

    def __init__(self, name: str, run: Callable[[], Awaitable[None]], restart: Restart, at_s: float) -> None:
        self.name = name
        self.run = run
        self.restart = restart
        self.state = RUNNING
        self.since_s = at_s
        self.restarts = 0
        self.last_error = ""
        self.recent: deque[float] = deque()
        self.stopping = False
        self.task: asyncio.Task[None]  # set as soon as it is made, which needs this entry

    def enter(self, state: str, at_s: float) -> None:
        self.state = state
        self.since_s = at_s


class Supervisor:
    """Owner of named tasks: `async with Supervisor(clock, rng, name="plane") as tasks: ...`.

    Leaving the context stops every task, newest first, within `STOP_TIMEOUT_S`. A failure that nobody saw
    through `wait` is raised there.
    """

    def __init__(self, clock: Clock, rng: Rng, *, name: str = "tasks") -> None:
        self.name = name
        self._clock = clock
        self._rng = rng
        self._entries: dict[str, _Entry] = {}
        self._spawned: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._failure: TaskFailed | None = None
        self._failure_seen = False
        self._stopping = False

    async def __aenter__(self) -> Supervisor:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            await self.stop(STOP_TIMEOUT_S)
        except TasksLeft:
            if error is None:
                raise  # else the body's own error matters more; stop has logged this one
        if error is None and self._failure is not None and not self._failure_seen:
            raise self._failure

    def start(self, name: str, run: Callable[[], Awaitable[None]], restart: Restart = NEVER) -> None:
        """Start `run` as the task `name`; it is awaited anew at each restart.

        A name may be used again once its task has ended. Raises `Stopping`.
        """
        if self._stopping:
            raise Stopping(f"{self.name} stops; {name} was not started")
        old = self._entries.get(name)
        if old is not None and not old.task.done():
            raise ValueError(f"{self.name} already runs a task named {name!r}")
        self._entries.pop(name, None)  # a fresh place in the order of start
        asyncio.get_running_loop()  # where there is none nothing may be left half started
        entry = _Entry(name, run, restart, self._clock.monotonic())
        self._entries[name] = entry
        entry.task = asyncio.create_task(self._run(entry), name=f"{self.name}/{name}")
        entry.task.add_done_callback(lambda task: self._noticed(entry, task))

    def spawn(self, name: str, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a short unit that the caller awaits; its error is the caller's. Raises `TooMany`, `Stopping`.

        Stopping the supervisor cancels it, should it still run.
        """
        if self._stopping or len(self._spawned) >= SPAWNED_MAX:
            coro.close()
            if self._stopping:
                raise Stopping(f"{self.name} stops; {name} was not started")
            raise TooMany(f"{self.name} runs {SPAWNED_MAX} short tasks already", limit=SPAWNED_MAX)
        task = asyncio.create_task(coro, name=f"{self.name}/{name}")
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)
        return task

    async def wait(self) -> None:
        """Return when every started task has ended; raise `TaskFailed` as soon as one has failed for good."""
        while True:
            self._changed.clear()
            if self._failure is not None:
                self._failure_seen = True
                raise self._failure
            if all(entry.task.done() for entry in self._entries.values()):
                return
            await self._changed.wait()

    async def end(self, name: str, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop one task and forget it; an unknown name is no error. Raises `TasksLeft`."""
        entry = self._entries.get(name)
        if entry is None:
            return
        self._cancel(entry)
        if not await ended_within(entry.task, timeout_s, self._clock):
            entry.enter(STUCK, self._clock.monotonic())
            raise _left(self.name, [name], timeout_s)
        del self._entries[name]

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Cancel every task, newest first, each one ended before the next is told, all within `timeout_s`.

        A task that does not end gets its share of the time and is then passed over, so that one that ignores
        its cancellation does not keep the others from an orderly end. Raises `TasksLeft` with the names of
        those that still run at the deadline. Repeating it does nothing more.
        """
        self._stopping = True
        deadline_s = self._clock.monotonic() + timeout_s
        entries = list(reversed(self._entries.values()))
        try:
            for position, entry in enumerate(entries):
                self._cancel(entry)
                share_s = (deadline_s - self._clock.monotonic()) / (len(entries) - position)
                await ended_within(entry.task, share_s, self._clock)
            await self._stop_spawned(deadline_s)
        except asyncio.CancelledError:
            for entry in entries:  # no time left to do it in order: whoever waits for us has given up
                self._cancel(entry)
            for task in self._spawned:
                task.cancel()
            raise
        finally:
            self._changed.set()
        late = [entry for entry in entries if not entry.task.done()]
        for entry in late:
            await ended_within(entry.task, deadline_s - self._clock.monotonic(), self._clock)
        left = [entry for entry in late if not entry.task.done()]
        for entry in left:
            entry.enter(STUCK, self._clock.monotonic())
        names = [entry.name for entry in left] + [t.get_name() for t in self._spawned if not t.done()]
        if names:
            _log.error("tasks_left", supervisor=self.name, tasks=names, timeout_s=timeout_s)
            raise _left(self.name, names, timeout_s)

    def snapshot(self) -> list[TaskSnapshot]:
        """Every started task in order of start, and how it fares."""
        now_s = self._clock.monotonic()
        return [
            TaskSnapshot(
                name=entry.name,
                state=entry.state,
                since_s=max(0.0, now_s - entry.since_s),
                restarts=entry.restarts,
                last_error=entry.last_error,
            )
            for entry in self._entries.values()
        ]

    async def _stop_spawned(self, deadline_s: float) -> None:
        # After the tasks that wait for them, so that nobody takes our cancellation for a unit's own failure.
        spawned = list(self._spawned)
        for task in spawned:
            task.cancel()
        for task in spawned:
            await ended_within(task, deadline_s - self._clock.monotonic(), self._clock)

    def _cancel(self, entry: _Entry) -> None:
        # Told once: a second cancellation would cut short the orderly end that the first one began.
        if not entry.stopping and not entry.task.done():
            entry.task.cancel()
        entry.stopping = True

    async def _run(self, entry: _Entry) -> None:
        """Run an entry, again and again where its policy says so, until it ends."""
        while True:
            entry.enter(RUNNING, self._clock.monotonic())
            try:
                await entry.run()
            except asyncio.CancelledError as error:
                if _asked_to_end():
                    entry.enter(ENDED, self._clock.monotonic())
                    raise
                failure: BaseException = error  # nobody asked: something it awaited was cancelled
            except Exception as error:  # noqa: BLE001 - the one place where a task's error is caught
                failure = error
            else:
                entry.enter(ENDED, self._clock.monotonic())
                return
            delay_s = self._after_failure(entry, failure)
            if delay_s is None:
                return
            entry.enter(WAITING, self._clock.monotonic())
            try:
                await self._clock.sleep(delay_s)
            except asyncio.CancelledError:
                entry.enter(ENDED, self._clock.monotonic())
                raise
            entry.restarts += 1

    def _noticed(self, entry: _Entry, task: asyncio.Task[None]) -> None:
        """A task has ended. An error that comes out of it is none of `run`'s, which are caught: it was met
        while a failure was dealt with (a log that can't be written), or it asks for the program's end.
        Neither may make the death a silent one."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            entry.last_error = error_text(error)
            self._fail(entry, error)
        self._changed.set()
        if error is not None:
            _log.error("task_failed", task=f"{self.name}/{entry.name}", final=True, exc_info=error)

    def _after_failure(self, entry: _Entry, failure: BaseException) -> float | None:
        """Note a failure; the wait before the restart, or None where there will be none."""
        now_s = self._clock.monotonic()
        entry.last_error = error_text(failure)
        while entry.recent and now_s - entry.recent[0] > entry.restart.window_s:
            entry.recent.popleft()
        limit = entry.restart.max_restarts
        may_restart = entry.restart.on_failure and (limit is None or len(entry.recent) < limit)
        if may_restart and not entry.stopping:
            entry.recent.append(now_s)
            if limit is None and len(entry.recent) > _RECENT_MAX:
                entry.recent.popleft()
            delay_s = entry.restart.backoff().delay_s(len(entry.recent), self._rng)
            _log.error(
                "task_failed",
                task=f"{self.name}/{entry.name}",
                restart_in_s=round(delay_s, 3),
                exc_info=failure,
            )
            return delay_s
        self._fail(entry, failure)
        _log.error("task_failed", task=f"{self.name}/{entry.name}", final=True, exc_info=failure)
        return None

    def _fail(self, entry: _Entry, failure: BaseException) -> None:
        """The task is dead for good."""
        entry.enter(FAILED, self._clock.monotonic())
        if not entry.stopping and self._failure is None:
            self._failure = TaskFailed(
                f"task {entry.name!r} of {self.name} failed and may not be started again: {entry.last_error}",
                task=entry.name,
                error=entry.last_error,
            )
            self._failure.__cause__ = failure


_RECENT_MAX = (
    64  # failures remembered for the backoff of a task without a limit; it is at its longest by then
)


class OwnedThread:
    """A named thread that is joined: it has an owner who closes it, and never outlives the program unseen.

    `run` is the thread's work; `stop` tells it to end and must not block. An error of `run` is logged when it
    happens and raised once, by `close`. The thread is no daemon: a daemon dies in the middle of a write.
    """

    def __init__(self, name: str, run: Callable[[], None], stop: Callable[[], None]) -> None:
        self.name = name
        self._work = run
        self._stop = stop
        self._failure: BaseException | None = None
        # Like a task, a thread takes over the context it was born in (the current clock, log context).
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=name, daemon=False)

    def start(self) -> OwnedThread:
        """Start it; returns itself."""
        self._thread.start()
        return self

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    @property
    def failure(self) -> BaseException | None:
        """What `run` raised; None where it has not."""
        return self._failure

    def close(self, timeout_s: float = THREAD_JOIN_TIMEOUT_S) -> None:
        """Tell it to end and wait, in real time, at most `timeout_s`. Repeating it does nothing.

        Raises `TasksLeft` naming it where it did not end, or the error that `run` ended with (once).
        """
        if self._thread.ident is None:
            return  # never started
        if self._thread.is_alive():
            self._stop()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            _log.error("thread_left", thread=self.name, timeout_s=timeout_s)
            _stuck.add(self._thread)
            raise _left("the program", [self.name], timeout_s)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def aclose(self, timeout_s: float = THREAD_JOIN_TIMEOUT_S) -> None:
        """`close` without holding up the event loop."""
        await asyncio.to_thread(self.close, timeout_s)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - kept for the owner; a thread has nobody above it
            self._failure = error
            _log.error("thread_failed", thread=self.name, exc_info=error)


_stuck: set[threading.Thread] = set()


def stuck_threads() -> list[str]:
    """Names of owned threads that were told to end, did not in time, and still run.

    The interpreter waits for them when it exits. A program that has finished everything else and finds some
    here ends by `os._exit`; nothing can be lost by it that was not lost already.
    """
    return sorted(thread.name for thread in _stuck if thread.is_alive())


async def ended_within(task: asyncio.Task[Any], seconds: float, clock: Clock) -> bool:
    """Wait until `task` is done, at most `seconds` on `clock`; whether it is.

    The task is neither cancelled nor is its outcome looked at: what to do with a late one is the caller's.
    """
    if task.done():
        return True
    if seconds <= 0:
        await asyncio.sleep(0)
        return task.done()
    timer = asyncio.create_task(clock.sleep(seconds), name="deadline")
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    await asyncio.sleep(0)  # lets the timer go, so that nothing is left behind
    return task.done()


async def uninterrupted(work: Coroutine[Any, Any, T], told_to_end: Callable[[], None]) -> T:
    """The answer of `work`, which is not cancelled with its caller: it is told to end, and waited for.

    For work with a step that must not be left half done (a write in a thread). `told_to_end` must make it
    end soon; the caller's cancellation is raised once it has. A second cancellation cancels the work too.
    """
    task = asyncio.create_task(work, name="uninterrupted")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not _asked_to_end():
            raise  # the work's own
        told_to_end()
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task_failed", task="uninterrupted", final=True, exc_info=error)
        raise


def _asked_to_end() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _left(owner: str, names: list[str], timeout_s: float) -> TasksLeft:
    listed = ", ".join(names)
    return TasksLeft(
        f"{listed} of {owner} did not end within {timeout_s:g} s of being told to: something in there "
        "ignores cancellation or blocks",
        tasks=names,
    )
