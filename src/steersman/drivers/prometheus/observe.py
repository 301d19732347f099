"""The prometheus driver: mapping tables as queries, answers as fragments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from msgspec import Struct

from steersman.drivers.api import DriverContext, Observation
from steersman.drivers.exposition.plan import Reading
from steersman.drivers.exposition.reader import INLINE_MAX_BYTES
from steersman.drivers.lane import Lane
from steersman.drivers.prometheus.answers import Vector
from steersman.drivers.prometheus.ask import Asker
from steersman.drivers.prometheus.board import Board, Facts, Times
from steersman.drivers.prometheus.lower import Query, lower, scrape_targets
from steersman.drivers.prometheus.options import PrometheusOptions
from steersman.drivers.prometheus.targets import Targets, read_variable
from steersman.kernel.quantity import Duration
from steersman.kinds.fragment import SCOPE_LABEL

ASK_SHARE = 0.8
"""Share of the source's time-out that all questions together may take; reading has what is left of it."""
INLINE_MAX_SERIES = INLINE_MAX_BYTES // 256
"""More series are read in a thread; one takes some 250 bytes of an answer."""
SKEW_MAX_S = 5.0
"""Machines that keep their time by NTP differ by less. What is more is taken out of the samples' times: else
a server whose clock is behind would make everything old, and one that is ahead would make nothing old."""
SKEW_STEP_S = 2.0
"""A request that takes longer than this shows in the next comparison of clocks; a shorter one does not."""
OLD_INTERVALS = 4.0
OLD_MIN_S = 120.0
"""Samples older than so many intervals, and than this, are worth a line: their scrape is slow or ended."""

_UP = "up"


class PrometheusDriver:
    """Observes what a Prometheus has scraped. See docs/reference/drivers/prometheus.md."""

    name: ClassVar[str] = "prometheus"
    Options: ClassVar[type[Struct]] = PrometheusOptions
    default_interval_s: ClassVar[float] = 30.0

    def __init__(self, options: PrometheusOptions, context: DriverContext) -> None:
        labels = dict(options.labels)
        if context.scope:
            labels[SCOPE_LABEL] = context.scope
        own = {"source": context.source, "scope": context.scope or context.source, **options.variables}
        self._context = context
        self._place = options.place
        self._lowered = lower(options.tables, options.window, options.match, set(own))
        self._targets_query = scrape_targets(options.match)
        self._lane = Lane(f"{context.source}-answers", f"reading the answers of {options.place}")
        self._client = options.open_client(context.clock)
        self._asker = Asker(self._client, self._lane, context)
        variables = {f"@{name}": text for name, text in own.items()}
        self._board = Board(self._lowered, context.source, labels, variables, options.window)
        self._facts = Facts(variables={join.variable: {} for join in self._lowered.joins})
        self._learnt: set[str] = set()
        self._jobs: set[str] = set()
        self._skew_s = 0.0

    async def observe(self) -> Observation:
        """Ask everything once. Raises `SourceError` where nothing could be learnt."""
        clock = self._context.clock
        began_s = clock.monotonic()
        deadline_s = began_s + self._context.timeout_s * ASK_SHARE
        look = Observation()
        at_s = await self._asker.moment(deadline_s)
        self._compare(at_s - clock.now().timestamp(), look)
        # Times first: a sample that comes in between is told as old as the one before it, never as younger.
        times = await self._learn(at_s, deadline_s, look)
        asked = [query for query in self._lowered.queries if query.stamp in times]
        asked = [query for query in asked if query.joins <= self._learnt]
        answers, failures = await self._asker.all([(q.number, q.text) for q in asked], at_s, deadline_s)
        if not answers and failures:
            raise next(iter(failures.values()))
        for number, error in failures.items():
            self._partly(look, f"{self._lowered.queries[number].place}: {error.detail}")
        told = [(query, answers[query.number]) for query in asked if query.number in answers]
        for query, vector in told:
            self._heed(look, query.place, vector)
        read = await self._read(told, times, began_s)
        self._judge(look, read, at_s)
        return look

    async def close(self) -> None:
        """Close the connections and the thread. Repeating it does nothing."""
        try:
            await self._client.close()
        finally:
            await self._lane.close()

    def _compare(self, skew_s: float, look: Observation) -> None:
        """Note how far its clock is from ours. A difference that moves by less than a request may take is the
        same one, or times would go back with each slower answer."""
        if abs(skew_s - self._skew_s) > SKEW_STEP_S:
            self._skew_s = skew_s if abs(skew_s) > SKEW_MAX_S else 0.0
        if self._skew_s:
            ahead = "ahead of" if self._skew_s > 0 else "behind"
            apart = Duration(round(abs(self._skew_s)))
            look.warnings.append(f"{self._place}: its clock is {apart} {ahead} ours; ages are by its clock")

    async def _learn(self, at_s: float, deadline_s: float, look: Observation) -> dict[int, Times]:
        """Ask for targets, variables and times; what was learnt of the first two is kept where asking fails.

        Raises `SourceError` where no time could be had: without its age nothing is told.
        """
        lowered = self._lowered
        queries: list[tuple[str | int, str]] = [(_UP, self._targets_query)]
        queries += [(join.variable, join.text) for join in lowered.joins]
        queries += [(stamp.number, stamp.text) for stamp in lowered.stamps]
        answers, failures = await self._asker.all(queries, at_s, deadline_s)
        times: dict[int, Times] = {}
        for stamp in lowered.stamps:
            vector = answers.get(stamp.number)
            if vector is None:
                self._partly(look, f"{stamp.place}: {failures[stamp.number].detail}")
                continue
            self._heed(look, stamp.place, vector)
            times[stamp.number] = Times(vector, stamp.labels)
            self._jobs |= times[stamp.number].jobs
        if not times:
            raise next(iter(failures.values()))
        variables = dict(self._facts.variables)
        for join in lowered.joins:
            vector = answers.get(join.variable)
            if vector is None:
                self._partly(look, f"{{{join.variable}}}: {failures[join.variable].detail}")
                continue
            self._heed(look, f"{{{join.variable}}}", vector)
            variables[join.variable], unclear = read_variable(vector, join.label)
            self._learnt.add(join.variable)
            if unclear:
                self._partly(look, f"{{{join.variable}}} has several values on {', '.join(unclear[:5])}")
        pods = self._facts.pods
        vector = answers.get(_UP)
        if vector is None:
            self._partly(look, f"scrape targets: {failures[_UP].detail}")
        else:
            self._heed(look, "scrape targets", vector)
            targets = Targets(vector)
            pods = targets.pods
            for line in targets.problems(self._jobs):
                self._partly(look, line)
        self._facts = Facts(pods, variables)
        return times

    async def _read(
        self, told: list[tuple[Query, Vector]], times: dict[int, Times], began_s: float
    ) -> Reading:
        clock, facts, at = self._context.clock, self._facts, self._context.clock.now()
        series = sum(len(vector.samples) for _, vector in told)
        if series <= INLINE_MAX_SERIES and not self._lane.busy:
            return self._board.read(told, times, facts, at, self._skew_s)
        left_s = self._context.timeout_s - (clock.monotonic() - began_s)
        return await self._lane.run(
            lambda: self._board.read(told, times, facts, at, self._skew_s), max(0.0, left_s)
        )

    def _judge(self, look: Observation, read: Reading, at_s: float) -> None:
        """Put what was read into the observation, with a line for what is old."""
        look.fragments = read.fragments
        for warning in read.warnings:
            self._partly(look, warning)
        look.drift += read.drift
        bound_s = max(OLD_MIN_S, OLD_INTERVALS * self._context.interval_s)
        moment = datetime.fromtimestamp(at_s - self._skew_s, UTC)
        ages = [(moment - fragment.observed_at).total_seconds() for fragment in read.fragments]
        old = [age for age in ages if age > bound_s]
        if old:
            oldest = Duration(round(max(old)))
            look.warnings.append(
                f"{self._place}: of {len(ages)} entities {len(old)} were last sampled more than "
                f"{Duration(bound_s)} ago, the longest {oldest}"
            )
        if not read.fragments and not look.warnings:
            self._partly(look, "no series of the mappings of this source is there")

    def _heed(self, look: Observation, place: str, vector: Vector) -> None:
        """Warnings of the API mean that the answer may lack something, however good the rest is."""
        for note in vector.notes:
            self._partly(look, f"{place}: it says: {note}")
        if vector.truncated:
            self._partly(look, f"{place}: more series than one answer may have; the rest is not told")

    def _partly(self, look: Observation, line: str) -> None:
        look.complete = False
        text = line if self._place in line else f"{self._place}: {line}"
        if text not in look.warnings:
            look.warnings.append(text)
