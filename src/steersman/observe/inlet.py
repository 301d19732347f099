"""The one door to the bus: what drivers observe, what is pushed and what is replayed goes through here.

So one place holds fields to their declared types, keeps a source from speaking in another's name, hands the
bus slices that leave the event loop room to breathe, and lets recorders listen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct, structs

from steersman.kernel.clock import Clock
from steersman.kinds.drift import SHAPE
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fields import canonical_name, clean_fields
from steersman.kinds.fragment import StateFragment
from steersman.kinds.settings import OWN_SOURCE, IdentitySettings
from steersman.observe.entries import Batch, Declared, Entry, Gone, Reported
from steersman.observe.identity.resolver import Resolver
from steersman.state.bus import StateBus
from steersman.state.outcome import STALE, MergeOutcome
from steersman.state.sources import SourceInfo

SLICE_MAX = 500
"""Fragments that are merged in one go: some 2 ms, so that whoever else waits for the loop does not notice."""

Listener = Callable[[Entry], None]
Surprise = Callable[[EntityType, str, str], None]
"""Told of a word that no vocabulary knows: type, field, what is odd."""


class Refusal(Struct, frozen=True):
    """Why a fragment may not pass: one line for each field at fault."""

    problems: tuple[str, ...]


class Inlet:
    """The door. Belongs to the bus's thread; its methods do not wait."""

    def __init__(
        self,
        bus: StateBus,
        clock: Clock,
        identity: IdentitySettings | None = None,
        is_managed: Callable[[EntityKey], bool] = lambda _: False,
    ) -> None:
        self.bus = bus
        self.names = Resolver(bus, identity, is_managed)
        """Which names are one entity."""
        self._clock = clock
        self._began_s = clock.monotonic()
        self._listeners: list[Listener] = []
        self._observed: set[str] = set()
        self._declared: dict[str, SourceInfo] = {}

    # ---- what goes in

    def take(self, fragments: list[StateFragment]) -> list[MergeOutcome]:
        """Merge fragments that arrived now, in their order; at most `SLICE_MAX` is polite."""
        now = self._clock.now()
        if self._listeners and fragments:
            self._tell(Batch(now, self._elapsed_s(), fragments))
        passed = self.names.admit(fragments)
        if passed is fragments:
            outcomes = self.bus.put_many(fragments, received_at=now)
        else:
            landed = iter(self.bus.put_many([one for one in passed if one is not None], received_at=now))
            outcomes = [
                next(landed) if one is not None else MergeOutcome(STALE, fragment)
                for fragment, one in zip(fragments, passed, strict=True)
            ]
        self.bus.links.tidy()
        return outcomes

    def forget(self, key: EntityKey, observed_at: datetime, source: str = "") -> bool:
        """The entity is gone since then, as `source` says where one does; whether there was one."""
        key = self.names.typed(source, key)
        self._tell(Gone(self._clock.now(), self._elapsed_s(), *key, observed_at))
        gone = self.bus.forget(key.entity_type, key.entity_id, key.scope, observed_at)
        self.names.forget(key, observed_at)
        return gone

    def declare(self, info: SourceInfo, *, observed: bool = True) -> None:
        """Say what a source promises. `observed`: this server reads it, so nobody may push in its name."""
        self.bus.declare_source(info)
        self._declared[info.name] = info
        if observed:
            self._observed.add(info.name)
        self._tell(Declared.of(self._clock.now(), self._elapsed_s(), info))

    def report(self, name: str, ok: bool, detail: str = "") -> None:
        """An attempt to read a source ended."""
        self.bus.report_source(name, ok, detail)
        self._tell(Reported(self._clock.now(), self._elapsed_s(), name, ok, detail))

    # ---- what may go in

    def surprised(self, entity_type: EntityType, field: str, detail: str) -> None:
        """A word came in that no vocabulary knows: for `StateBus.drift`."""
        self.bus.note_drift(entity_type, field, detail)

    def drifted(self, source: str, detail: str) -> None:
        """A driver met a shape that it does not know in its system's answers."""
        self.bus.drift_log.note(None, "", detail, self._clock.now(), kind=SHAPE, source=source)

    def is_observed(self, source: str) -> bool:
        """Whether this server reads that source itself."""
        return source == OWN_SOURCE or source in self._observed

    def replay(self, entry: Entry) -> None:
        """Do again what an entry says, now."""
        match entry:
            case Batch():
                self.take(entry.fragments)
            case Gone():
                self.forget(entry.key, entry.observed_at)
            case Declared():
                self.declare(entry.info, observed=False)
            case Reported():
                self.report(entry.name, entry.ok, entry.detail)
            case _:
                pass  # a gap in the recording changes nothing

    # ---- listening

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with everything that passes from now on; first with the sources that were declared
        before. It must neither block nor raise. Returns the function that ends it."""
        for info in self._declared.values():
            listener(Declared.of(self._clock.now(), self._elapsed_s(), info))
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def _tell(self, entry: Entry) -> None:
        for listener in self._listeners:
            listener(entry)

    def _elapsed_s(self) -> float:
        return self._clock.monotonic() - self._began_s


def _nobody(_entity_type: EntityType, _field: str, _detail: str) -> None:
    """Whoever only asks whether a fragment may pass."""


def cleaned(fragment: StateFragment, surprised: Surprise = _nobody) -> StateFragment | Refusal:
    """The fragment with canonical names and values, itself where nothing had to change; or why it may not
    pass. One wrong field refuses the fragment: half of what a sender meant is not what it meant."""
    clean = clean_fields(fragment.entity_type, fragment.fields)
    if clean.problems:
        return Refusal(tuple(str(problem) for problem in clean.problems))
    _tell_drift(fragment.entity_type, clean.drift, surprised)
    return _with(fragment, clean.fields)


def salvaged(fragment: StateFragment, surprised: Surprise = _nobody) -> tuple[StateFragment, list[str]]:
    """The fragment without the fields that are at fault, and a line for each of these: for drivers, whose
    other fields were read from the same system and are as good as ever."""
    clean = clean_fields(fragment.entity_type, fragment.fields)
    _tell_drift(fragment.entity_type, clean.drift, surprised)
    lines = [f"{fragment.key}: {problem}" for problem in clean.problems]
    return _with(fragment, clean.fields), [*lines, *clean.drift]


def _tell_drift(entity_type: EntityType, drift: tuple[str, ...], surprised: Surprise) -> None:
    for line in drift:
        field, _, detail = line.partition(": ")
        surprised(entity_type, field, detail)


def _with(fragment: StateFragment, fields: dict[str, Any]) -> StateFragment:
    """The fragment with these fields, and canonical names among what it clears: a source that writes under an
    alias clears under it too."""
    clear = fragment.clear
    if clear:
        clear = tuple(dict.fromkeys(canonical_name(fragment.entity_type, name) for name in clear))
    if fields is fragment.fields and clear == fragment.clear:
        return fragment
    return structs.replace(fragment, fields=fields, clear=clear)


def slices(fragments: list[StateFragment]) -> Iterable[list[StateFragment]]:
    """The fragments in slices that may be taken in one go."""
    if len(fragments) <= SLICE_MAX:
        yield fragments
        return
    for start in range(0, len(fragments), SLICE_MAX):
        yield fragments[start : start + SLICE_MAX]
