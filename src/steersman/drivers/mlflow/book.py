"""Which runs are followed, from one look to the next: alive, ended a while ago, or gone.

A look asks for three things only: the runs that have not ended, those that ended since the last look, and
those of the deleted that ended lately. A run that was alive and is in none of these answers (deleted, moved
over a page's edge, ended by a clock that is far behind) is asked for by its id. So a hundred thousand old
runs cost nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from steersman.drivers.mlflow.shapes import Run, time_of


class _Life(Struct):
    """One run. `sign` is the newest metric's time as its client gave it, and `sign_at` when we first saw
    that; `ended_seen_at` is from when it is kept as an ended one."""

    run: Run
    sign: datetime | None = None
    sign_at: datetime | None = None
    ended_seen_at: datetime | None = None


class RunBook:
    """What is known of the runs of one server."""

    def __init__(self, keep_ended_s: float, limit: int) -> None:
        self._keep = timedelta(seconds=keep_ended_s)
        self._limit = limit
        self._alive: dict[str, _Life] = {}
        self._ended: dict[str, _Life] = {}

    @property
    def runs(self) -> list[Run]:
        """All that are followed, the living first."""
        return [life.run for life in (*self._alive.values(), *self._ended.values())]

    @property
    def has_ended(self) -> bool:
        """Whether an ended run is still told."""
        return bool(self._ended)

    def vanished(self, listed: Collection[str]) -> list[str]:
        """The runs that were alive and are not among those now listed, those seen longest ago first."""
        return [run_id for run_id in self._alive if run_id not in listed]

    def see(self, runs: Iterable[Run], now: datetime) -> None:
        """Take what a look gave. What is alive again is no longer ended."""
        for run in runs:
            if run.ended:
                self._end(run, now)
            else:
                self._live(run, now)

    def drop(self, run_ids: Iterable[str]) -> list[str]:
        """Forget runs that are no more; those that were known."""
        known = [run_id for run_id in run_ids if run_id in self._alive or run_id in self._ended]
        for run_id in known:
            self._alive.pop(run_id, None)
            self._ended.pop(run_id, None)
        return known

    def elsewhere(self, experiments: Collection[str]) -> list[str]:
        """The runs whose experiment is not among these."""
        lives = (*self._alive.values(), *self._ended.values())
        return [life.run.id for life in lives if life.run.info.experiment_id not in experiments]

    def outlived(self, now: datetime) -> list[str]:
        """The ended runs whose time is over, and the oldest of too many."""
        over = {key for key, life in self._ended.items() if now - (life.ended_seen_at or now) > self._keep}
        rest = [key for key in self._ended if key not in over]
        return [*over, *rest[: max(0, len(rest) - self._limit)]]

    def sign_of_life(self, run_id: str) -> datetime | None:
        """When it last showed that it works: its newest metric, or its start where it has none. Never later
        than when we first saw that: a client's clock may be ahead of ours."""
        life = self._alive.get(run_id) or self._ended.get(run_id)
        if life is None or life.sign is None or life.sign_at is None:
            return None
        return min(life.sign, life.sign_at)

    def _live(self, run: Run, now: datetime) -> None:
        before = self._alive.pop(run.id, None) or self._ended.pop(run.id, None)
        self._alive[run.id] = self._signed(run, before, now)

    def _end(self, run: Run, now: datetime) -> None:
        alive = self._alive.pop(run.id, None)
        before = alive or self._ended.pop(run.id, None)
        life = self._signed(run, before, now)
        ended_at = time_of(run.info.end_time) or now
        # We saw it alive: it is kept from now, whatever its own clock says of its end.
        life.ended_seen_at = now if alive is not None else min(ended_at, now)
        if before is not None and alive is None:
            life.ended_seen_at = max(life.ended_seen_at, before.ended_seen_at or life.ended_seen_at)
        self._ended[run.id] = life

    def _signed(self, run: Run, before: _Life | None, now: datetime) -> _Life:
        stamps = [time_of(metric.timestamp) for metric in run.data.metrics]
        stamps.append(time_of(run.info.start_time))
        sign = max((stamp for stamp in stamps if stamp is not None), default=None)
        same = before is not None and before.sign == sign
        return _Life(run, sign, before.sign_at if before is not None and same else now)
