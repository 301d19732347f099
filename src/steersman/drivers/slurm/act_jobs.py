"""Operations on jobs: cancel, requeue.

A cancelled job keeps no mark. A job that is requeued gets one in its AdminComment before, with how often it
had been started by then: so that the same attempt, made twice, puts it back once.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from steersman.drivers.inputs import Inputs
from steersman.drivers.slurm.changes import JOB_OVER, JOB_WAITS, NO_SUCH_JOB, unanswered
from steersman.drivers.slurm.client import SlurmRefused
from steersman.drivers.slurm.picture import JobSeen
from steersman.drivers.slurm.steps import Site, done, later, overtaken, refused, rehearsed
from steersman.drivers.slurm.tags import JOINT, Tag, find_tag, tag_for
from steersman.kinds.step import StepCall, StepResult

JOB_ID_MAX = 2**32 - 3
"""slurm.h: NO_VAL and INFINITE are behind it."""

_MARK = re.compile(r"(\S+) after (\d{1,9}) restarts")


class JobInputs(Inputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which job: its number, or `NUMBER_TASK` for one task of an array. `uid` (`ID@SUBMIT_TIME`, as the
    entity has it): only where it is still that job, because numbers are used again."""

    job: (
        Annotated[int, Meta(ge=1, le=JOB_ID_MAX)]
        | Annotated[str, Meta(pattern=r"^[1-9]\d{0,9}(_\d{1,7})?$", max_length=18)]
    )
    uid: Annotated[str, Meta(pattern=r"^(\d{1,10}@\d{1,12})?$")] = ""

    def __post_init__(self) -> None:
        if int(self.id.partition("_")[0]) > JOB_ID_MAX:
            raise ValueError(f"a job's number is at most {JOB_ID_MAX}")
        if self.uid and "_" not in self.id and self.uid.partition("@")[0] != self.id:
            raise ValueError("uid is another job's")

    @property
    def id(self) -> str:
        """As commands and paths name it."""
        return str(self.job)

    @property
    def what(self) -> str:
        """The job, as results name it."""
        return f"job {self.id}"

    def is_other(self, jobs: list[JobSeen]) -> bool:
        """Whether the number is another job's by now."""
        wanted = self.uid.partition("@")[2]
        times = {int(job.submitted_at.timestamp()) for job in jobs if job.submitted_at is not None}
        return bool(wanted) and bool(times) and int(wanted) not in times


class Cancel:
    """End a job: of an array, all of its tasks."""

    Inputs: ClassVar[type[Inputs]] = JobInputs

    async def make(self, site: Site, inputs: Any) -> StepResult:
        """Ask slurmctld to end it, and look until it has begun to."""
        what: str = inputs.what
        jobs = await site.cluster.jobs(inputs.id, site.ask_s)
        if not jobs:
            return done(what, "Slurm knows of no such job (any more)", changed=False)
        if inputs.is_other(jobs):
            return done(what, "has ended: its number is another job's by now", changed=False)
        if any(_overtaken(job, site.call) for job in jobs):
            return overtaken(what)
        states = _states(jobs)
        if _is_over(jobs):
            return done(what, f"had ended ({states})", changed=False, outputs={"state": states})
        if inputs.dry_run:
            return rehearsed(what, f"would be cancelled; it is {states}", {"state": states})
        with unanswered():
            try:
                await site.cluster.cancel_job(inputs.id, site.ask_s)
            except SlurmRefused as error:
                if error.number not in (NO_SUCH_JOB, JOB_OVER):  # it ended meanwhile
                    raise
            turn = 0
            while not _is_over(jobs := await site.cluster.jobs(inputs.id, site.ask_s)):
                if not await site.wait(turn):
                    return later(what, f"was asked to end, and has not ({_states(jobs)})")
                turn += 1
        states = _states(jobs) or "gone"
        return done(what, f"cancelled ({states})", changed=True, outputs={"state": states})

    async def find(self, site: Site, inputs: Any) -> StepResult | None:
        """It has ended, by this attempt or otherwise, or the attempt may be made again."""
        jobs = await site.cluster.jobs(inputs.id, site.ask_s)
        if not jobs or inputs.is_other(jobs):
            return done(inputs.what, "has ended", changed=True)
        if any(_overtaken(job, site.call) for job in jobs):
            return overtaken(inputs.what)
        states = _states(jobs)
        ended = _is_over(jobs)
        return done(inputs.what, f"has ended ({states})", changed=True) if ended else None


class RequeueInputs(JobInputs, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`hold`: it waits until somebody releases it."""

    hold: bool = False


class Requeue:
    """Put a job that runs back into its queue. It begins anew, from its start."""

    Inputs: ClassVar[type[Inputs]] = RequeueInputs

    async def make(self, site: Site, inputs: Any) -> StepResult:
        """Mark it, ask slurmctld, look whether it left its nodes."""
        what: str = inputs.what
        jobs = await site.cluster.jobs(inputs.id, site.ask_s)
        if len(jobs) != 1:
            why = "is an array or heterogeneous: name one task (ID_TASK)" if jobs else "Slurm has no such job"
            return refused(what, why)
        (job,) = jobs
        if _overtaken(job, site.call):
            return overtaken(what)
        mark = _mark_of(job, site.call)
        if mark is not None and _is_back(job, mark):
            return done(what, f"this attempt has put it back already ({job.state.text})", changed=True)
        why = _refusal(job, jobs, inputs)
        if why:
            return refused(what, why)
        if job.state.canonical == "pending":
            return done(what, "waits in its queue already", changed=False, outputs=_told(job))
        if inputs.dry_run:
            return rehearsed(what, f"would be put back; it is {job.state.text}", _told(job))
        restarts = job.restarts or 0
        if mark is None:
            await self._mark(site, inputs, job)
        return await self._put_back(site, inputs, restarts)

    async def find(self, site: Site, inputs: Any) -> StepResult | None:
        """By the mark: whether it was started more often than when this attempt began."""
        jobs = await site.cluster.jobs(inputs.id, site.ask_s)
        if len(jobs) != 1:
            return None
        (job,) = jobs
        if _overtaken(job, site.call):
            return overtaken(inputs.what)
        mark = _mark_of(job, site.call)
        if mark is None or not _is_back(job, mark):
            return None  # at most marked
        return done(inputs.what, f"put back ({job.state.text})", changed=True, outputs=_told(job))

    async def _mark(self, site: Site, inputs: Any, job: JobSeen) -> None:
        """A mark alone changes nothing, so that a failure leaves nothing open."""
        theirs, _ = find_tag(job.admin_comment)
        tag = tag_for(site.call, f"{site.call.key} after {job.restarts or 0} restarts")
        comment = f"{theirs}{JOINT}{tag}" if theirs else str(tag)
        await site.cluster.mark_job(inputs.id, comment, site.ask_s)

    async def _put_back(self, site: Site, inputs: Any, restarts: int) -> StepResult:
        with unanswered():
            try:
                await site.cluster.requeue_job(inputs.id, site.ask_s, hold=inputs.hold)
            except SlurmRefused as error:
                if error.number != JOB_WAITS:
                    raise
            turn = 0
            while jobs := await site.cluster.jobs(inputs.id, site.ask_s):
                if _is_back(jobs[0], restarts):
                    told = f"put back ({jobs[0].state.text})"
                    return done(inputs.what, told, changed=True, outputs=_told(jobs[0]))
                if not await site.wait(turn):
                    break
                turn += 1
        return later(inputs.what, f"was asked back, and is {_states(jobs) or 'gone'}")


def _refusal(job: JobSeen, jobs: list[JobSeen], inputs: Any) -> str:
    if inputs.is_other(jobs):
        return "its number is another job's by now"
    if job.state.ended:
        return f"it has ended ({job.state.text}); Slurm would run it anew"
    return "" if job.state.canonical in ("pending", "running", "suspended") else f"it is {job.state.text}"


def _is_over(jobs: list[JobSeen]) -> bool:
    """Whether every part has ended, or is leaving its nodes."""
    return all(job.state.ended or job.state.canonical == "completing" for job in jobs)


def _is_back(job: JobSeen, restarts: int) -> bool:
    """Whether it was put back since it had been started again so often."""
    return (job.restarts or 0) > restarts or job.state.canonical == "pending"


def _states(jobs: list[JobSeen]) -> str:
    return ", ".join(sorted({job.state.text for job in jobs}))


def _told(job: JobSeen) -> dict[str, Any]:
    return {"state": job.state.text, "restarts": job.restarts or 0}


def _tag(job: JobSeen) -> Tag | None:
    return find_tag(job.admin_comment)[1]


def _overtaken(job: JobSeen, call: StepCall) -> bool:
    tag = _tag(job)
    return tag is not None and tag.overtakes(call)


def _mark_of(job: JobSeen, call: StepCall) -> int | None:
    """How often it had been started again when this attempt marked it; None where it did not."""
    tag = _tag(job)
    match = _MARK.fullmatch(tag.text) if tag is not None and tag.is_own(call) else None
    return int(match.group(2)) if match is not None and match.group(1) == call.key else None
