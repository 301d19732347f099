"""Which drivers there are, and sources made of settings.

Drivers are entry points of the group `steersman.drivers`, the built-in ones like any other. One is imported
when a source names it, so a broken package of somebody else costs only the sources that use it: they are
there, failing, with the reason, and everything else runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, cast

from msgspec import Struct

from steersman.drivers.api import Driver, DriverContext, Observation, SourceError
from steersman.kernel.clock import Clock
from steersman.kernel.config import ConfigInvalid, Problem, convert
from steersman.kernel.confread import Place
from steersman.kernel.errors import InvalidInput, Unavailable
from steersman.kernel.ids import Rng
from steersman.kernel.logging import get_logger
from steersman.kernel.nearest import did_you_mean, nearest
from steersman.kernel.redact import error_text, redact_text
from steersman.kinds.settings import TIMEOUT_S, SourceSettings
from steersman.observe.isolate import Isolated

GROUP = "steersman.drivers"
OWN_PACKAGE = "steersman"
UNLOADABLE_INTERVAL_S = 60.0
"""How often a source says why its driver can't be loaded."""

_log = get_logger("observe.registry")


class DriverUnknown(InvalidInput):
    """No installed package has a driver of that name. `facts`: `driver`, `known`, `nearest`."""

    code = "driver_unknown"
    title = "No such driver"


class DriverBroken(Unavailable):
    """A driver's package can't be imported, or what it names is no driver. `facts`: `driver`, `package`."""

    code = "driver_broken"
    title = "Driver can't be loaded"


class Drivers:
    """The installed drivers by name. Nothing is imported until a driver is asked for."""

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        self._points: dict[str, EntryPoint] = {}
        for point in entry_points(group=GROUP) if points is None else points:
            other = self._points.get(point.name)
            # A name belongs to the built-in driver that has it; else to the first package by name.
            if other is None or _rank(point) < _rank(other):
                self._points[point.name] = point

    def names(self) -> list[str]:
        """All names, sorted; whether each can be loaded is not known yet."""
        return sorted(self._points)

    def own_names(self) -> list[str]:
        """Those that come with this package, sorted."""
        return [name for name in self.names() if self.is_own(name)]

    def get(self, name: str) -> type[Driver]:
        """The driver of that name. Raises `DriverUnknown`, `DriverBroken`."""
        point = self._points.get(name)
        if point is None:
            raise DriverUnknown(
                f"no driver is named {name!r}{did_you_mean(name, self._points)}; "
                f"installed are {', '.join(self.names()) or 'none'}",
                driver=name,
                known=self.names(),
                nearest=nearest(name, self._points),
            )
        try:
            found = point.load()
        except (Exception, SystemExit) as error:  # foreign code: whatever it raises must not stop the others
            raise _broken(point, error_text(error)) from error
        missing = _missing_parts(found)
        if missing:
            raise _broken(point, f"{point.value} is no driver: it has no {', '.join(missing)}")
        return cast("type[Driver]", found)

    def is_own(self, name: str) -> bool:
        """Whether a driver comes with this package, and so is known to leave the event loop alone."""
        point = self._points.get(name)
        return point is not None and point.value.startswith(f"{OWN_PACKAGE}.")

    def problems(self) -> dict[str, DriverBroken]:
        """Every driver that can't be loaded and why; imports them all. For `doctor`."""
        found: dict[str, DriverBroken] = {}
        for name in self.names():
            try:
                self.get(name)
            except DriverBroken as error:
                found[name] = error
        return found


class Observer(Protocol):
    """What intake needs of a driver once it is made."""

    async def observe(self) -> Observation:
        """As in `Driver`."""
        ...

    async def close(self) -> None:
        """As in `Driver`."""
        ...


class Source(Struct):
    """A configured source, ready to be observed."""

    name: str
    driver_name: str
    driver: Observer
    scope: str
    interval_s: float
    timeout_s: float
    priority: int = 0


class Unloadable:
    """Stands in for a driver that could not be loaded or made: each observation says why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def observe(self) -> Observation:
        """Raises `SourceError` with the reason."""
        raise SourceError(self._reason)

    async def close(self) -> None:
        """Nothing to close."""


def make_sources(
    settings: Iterable[SourceSettings], *, clock: Clock, rng: Rng, drivers: Drivers | None = None
) -> list[Source]:
    """The enabled sources with their drivers. No I/O.

    Raises one `ConfigInvalid` with the problems of all sources together (unknown drivers, wrong options). A
    driver that is broken itself is no reason not to start: its source is there and fails.
    """
    drivers = drivers if drivers is not None else Drivers()
    problems: list[Problem] = []
    sources: list[Source] = []
    for one in settings:
        if not one.enabled:
            continue
        try:
            sources.append(_make(one, drivers, clock, rng))
        except ConfigInvalid as error:
            problems += error.problems
        except DriverUnknown as error:
            place = one.options.located
            where = Place(place.file, place.line, place.column) if place.file else Place("")
            key = ".".join((*one.options.path, "driver"))
            expected = f"one of {', '.join(drivers.names())}"
            problem = Problem(
                where, key, f"no driver is named {one.driver!r}", expected, error.facts["nearest"]
            )
            problems.append(problem)
    if problems:
        raise ConfigInvalid(problems)
    return sources


def _make(one: SourceSettings, drivers: Drivers, clock: Clock, rng: Rng) -> Source:
    interval_s = float(one.interval) if one.interval is not None else UNLOADABLE_INTERVAL_S
    driver: Observer
    try:
        cls = drivers.get(one.driver)
        if one.interval is None:
            interval_s = cls.default_interval_s
        timeout_s = _timeout_s(one, interval_s)
        options: Any = convert(one.options, cls.Options)
        made = _construct(cls, options, DriverContext(one.name, one.scope, clock, rng, interval_s, timeout_s))
        driver = made if drivers.is_own(one.driver) else Isolated(made, one.name)
    except DriverBroken as error:
        _log.error("driver_broken", source=one.name, driver=one.driver, detail=error.detail, exc_info=error)
        timeout_s = _timeout_s(one, interval_s)
        driver = Unloadable(error.detail)
    return Source(one.name, one.driver, driver, one.scope, interval_s, timeout_s, one.priority)


def _timeout_s(one: SourceSettings, interval_s: float) -> float:
    return float(one.timeout) if one.timeout is not None else min(TIMEOUT_S, interval_s)


def _construct(cls: type[Driver], options: Any, context: DriverContext) -> Driver:
    try:
        return cls(options, context)
    except (Exception, SystemExit) as error:  # foreign code, as above
        detail = f"driver {cls.name} could not be made: {error_text(error)}"
        raise DriverBroken(detail, driver=cls.name) from error


def _rank(point: EntryPoint) -> tuple[bool, str]:
    package = point.dist.name if point.dist is not None else ""
    return package != OWN_PACKAGE, package


def _missing_parts(found: Any) -> list[str]:
    if not inspect.isclass(found):
        return ["class"]
    options = getattr(found, "Options", None)
    parts = {
        "name": isinstance(getattr(found, "name", None), str),
        "Options (a msgspec Struct)": inspect.isclass(options) and issubclass(options, Struct),
        "default_interval_s": isinstance(getattr(found, "default_interval_s", None), int | float),
        "observe (async)": inspect.iscoroutinefunction(getattr(found, "observe", None)),
        "close (async)": inspect.iscoroutinefunction(getattr(found, "close", None)),
    }
    return [part for part, there in parts.items() if not there]


def _broken(point: EntryPoint, why: str) -> DriverBroken:
    package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"
    return DriverBroken(
        redact_text(
            f"driver {point.name!r} of {package} can't be loaded: {why}; update or remove that package"
        ),
        driver=point.name,
        package=package,
    )
