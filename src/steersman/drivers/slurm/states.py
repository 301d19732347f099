"""Words for the states of nodes, jobs and partitions, in every spelling, and what they mean.

A node has one base state and any number of flags. REST of v0.0.38 gives them as a text and a list in either
case, later versions as one list, `scontrol` as `IDLE*+DRAIN`, `sinfo` as `drained*` or `drng`. All become
the words of the newest version; a word that nobody knows is kept as it is, as a flag, and told as drift.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

BASE_STATES = frozenset({"UNKNOWN", "DOWN", "IDLE", "ALLOCATED", "ERROR", "MIXED", "FUTURE", "INVALID"})
NODE_FLAGS = frozenset(
    {
        "DRAIN", "COMPLETING", "NOT_RESPONDING", "FAIL", "MAINTENANCE", "RESERVED", "PLANNED", "INVALID_REG",
        "REBOOT_REQUESTED", "REBOOT_ISSUED", "REBOOT_CANCELED", "POWER_DOWN", "POWERED_DOWN", "POWERING_DOWN",
        "POWERING_UP", "POWER_UP", "POWER_DRAIN", "CLOUD", "DYNAMIC_NORM", "DYNAMIC_FUTURE", "UNDRAIN",
        "RESUME",
        "EXTERNAL", "BLOCKED", "POWER_DOWN_ASAP", "POWER_DOWN_FORCE",
    }
)  # fmt: skip
"""Slurm 22.05 to 26.05."""

_SPELLINGS: dict[str, tuple[str, ...]] = {
    "ALLOC": ("ALLOCATED",), "MIX": ("MIXED",), "UNK": ("UNKNOWN",), "FUTR": ("FUTURE",), "ERR": ("ERROR",),
    "COMP": ("COMPLETING",), "COMPLETE": ("COMPLETING",), "INVAL": ("INVALID_REG",),
    "DRAINED": ("IDLE", "DRAIN"), "DRAINING": ("ALLOCATED", "DRAIN"), "DRNG": ("ALLOCATED", "DRAIN"),
    "FAILING": ("ALLOCATED", "FAIL"), "FAILG": ("ALLOCATED", "FAIL"),
    "MAINT": ("MAINTENANCE",), "RESV": ("RESERVED",), "RES": ("RESERVED",), "PLND": ("PLANNED",),
    "NO_RESPOND": ("NOT_RESPONDING",), "NOT_RESP": ("NOT_RESPONDING",), "NO_RESP": ("NOT_RESPONDING",),
    "REBOOT": ("REBOOT_REQUESTED",), "BOOT": ("REBOOT_ISSUED",), "REBOOT^": ("REBOOT_ISSUED",),
    "POW_DN": ("POWERED_DOWN",), "POW_UP": ("POWERING_UP",), "POWERING_DOWN": ("POWERING_DOWN",),
    "NPC": ("PERFCTRS",), "PERFCTRS": ("PERFCTRS",),
}  # fmt: skip
"""Short and compound words, and older ones."""
_SUFFIXES = {
    "*": "NOT_RESPONDING", "~": "POWERED_DOWN", "#": "POWERING_UP", "%": "POWERING_DOWN", "$": "MAINTENANCE",
    "@": "REBOOT_REQUESTED", "^": "REBOOT_ISSUED", "!": "POWER_DOWN", "-": "PLANNED",
}  # fmt: skip
_WITHOUT_DAEMON = frozenset({"POWERED_DOWN", "POWERING_DOWN", "POWERING_UP", "POWER_DOWN", "POWER_UP"})
_NO_WORK = frozenset(
    {"DRAIN", "FAIL", "NOT_RESPONDING", "MAINTENANCE", "INVALID_REG", "REBOOT_REQUESTED", "REBOOT_ISSUED",
     "POWER_DRAIN", "POWERING_DOWN", "POWER_DOWN", "EXTERNAL", "BLOCKED", "DYNAMIC_FUTURE",
     "POWER_DOWN_ASAP", "POWER_DOWN_FORCE"}
)  # fmt: skip
_WORD = re.compile(r"[A-Z][A-Z0-9_]*")
WORD_MAX_CHARS = 64


class NodeState(Struct, frozen=True):
    """A node's state. `flags` are sorted. `odd` are words that nobody knows; they are among the flags too."""

    base: str
    flags: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Base state and flags, joined by +."""
        return "+".join((self.base, *self.flags))

    @property
    def busy(self) -> bool:
        """Whether work is on it."""
        return self.base in ("ALLOCATED", "MIXED", "ERROR") or "COMPLETING" in self.flags

    @property
    def drained(self) -> bool:
        """Slurm's DRAINED: takes no work and has none."""
        return "DRAIN" in self.flags and not self.busy

    @property
    def draining(self) -> bool:
        """Slurm's DRAINING: takes no work and still has some."""
        return "DRAIN" in self.flags and self.busy

    @property
    def failing(self) -> bool:
        """Slurm's FAILING: expected to fail soon, with work on it."""
        return "FAIL" in self.flags and self.busy

    @property
    def schedulable(self) -> bool | None:
        """Whether work may be placed on it; powered down counts, since Slurm starts it on demand. None where
        that is not known."""
        if self.base in ("UNKNOWN", "INVALID"):
            return None
        return self.base in ("IDLE", "ALLOCATED", "MIXED") and _NO_WORK.isdisjoint(self.flags)

    @property
    def powered_down(self) -> bool:
        """Whether no daemon runs there that could tell."""
        return not _WITHOUT_DAEMON.isdisjoint(self.flags)


def node_state(*given: Iterable[str] | str) -> NodeState:
    """The state of a node from all that is said of it: texts joined by +, or lists of words."""
    base = ""
    flags: set[str] = set()
    odd: set[str] = set()
    for word in _words(given):
        for plain in _plain(word):
            if plain in BASE_STATES:
                base = base if base and plain != "INVALID" else plain
            else:
                flags.add(plain)
                if plain not in NODE_FLAGS:
                    odd.add(plain)
    base = base or ("IDLE" if flags & NODE_FLAGS else "UNKNOWN")  # sinfo says `maint`, and no base
    return NodeState(base, tuple(sorted(flags)), tuple(sorted(odd)))


def _words(given: Iterable[Iterable[str] | str]) -> Iterable[str]:
    for part in given:
        texts = [part] if isinstance(part, str) else part
        for text in texts:
            yield from (word for word in re.split(r"[+,|\s]+", text.strip()) if word)


def _plain(word: str) -> Iterable[str]:
    upper = word.strip().upper().replace("-", "_") if not word.endswith("-") else word.strip().upper()
    while upper and upper[-1] in _SUFFIXES:
        yield _SUFFIXES[upper[-1]]
        upper = upper[:-1]
    if not upper:
        return
    if _WORD.fullmatch(upper) is None:
        yield re.sub(r"[^A-Z0-9_]+", "_", upper)[:WORD_MAX_CHARS]
        return
    yield from _SPELLINGS.get(upper, (upper[:WORD_MAX_CHARS],))


_JOB_BASES: dict[str, str] = {
    "PENDING": "pending", "RUNNING": "running", "SUSPENDED": "suspended", "COMPLETED": "completed",
    "CANCELLED": "cancelled", "FAILED": "failed", "TIMEOUT": "failed", "NODE_FAIL": "failed",
    "PREEMPTED": "cancelled", "BOOT_FAIL": "failed", "DEADLINE": "failed", "OUT_OF_MEMORY": "failed",
}  # fmt: skip
JOB_FLAGS = frozenset(
    {
        "LAUNCH_FAILED", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESIZING", "CONFIGURING", "COMPLETING",
        "STOPPED", "RECONFIG_FAIL", "POWER_UP_NODE", "REVOKED", "REQUEUE_FED", "RESV_DEL_HOLD", "SIGNALING",
        "STAGE_OUT", "EXPEDITING", "UPDATE_DB",
    }
)  # fmt: skip
_JOB_SPELLINGS = {
    "PD": "PENDING", "R": "RUNNING", "S": "SUSPENDED", "CD": "COMPLETED", "CA": "CANCELLED", "F": "FAILED",
    "TO": "TIMEOUT", "NF": "NODE_FAIL", "PR": "PREEMPTED", "BF": "BOOT_FAIL", "DL": "DEADLINE",
    "OOM": "OUT_OF_MEMORY", "CG": "COMPLETING", "CF": "CONFIGURING", "CANCELED": "CANCELLED",
}  # fmt: skip


class JobState(Struct, frozen=True):
    """A job's state: `canonical` is one of `kinds.entity.JOB_STATES`, `text` what Slurm says, joined by +."""

    canonical: str
    text: str
    odd: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it will do no more."""
        return self.canonical in ("completed", "failed", "cancelled")


def job_state(given: Iterable[str] | str) -> JobState:
    """The state of a job: one word, or a base state with flags."""
    base = ""
    flags: list[str] = []
    odd: list[str] = []
    for word in _words([given]):
        upper = word.upper()
        plain = _JOB_SPELLINGS.get(upper, upper)[:WORD_MAX_CHARS]
        if plain in _JOB_BASES:
            base = base or plain
        elif plain not in ("BY",) and not plain.isdigit():  # CANCELLED by 1000
            flags.append(plain)
            if plain not in JOB_FLAGS:
                odd.append(plain)
    if "COMPLETING" in flags:
        canonical = "completing"
    elif not base and flags and not odd:  # CONFIGURING alone, as squeue says it
        canonical = "suspended" if "STOPPED" in flags else "pending" if "REQUEUED" in flags else "running"
    else:
        canonical = _JOB_BASES.get(base, "unknown")
    return JobState(canonical, "+".join((*((base,) if base else ()), *sorted(set(flags)))), tuple(odd))


_QUEUE_STATES = {"UP": "up", "DOWN": "down", "DRAIN": "drain", "INACTIVE": "inactive", "INACT": "inactive"}


def queue_state(given: Iterable[str] | str) -> tuple[str, str]:
    """The canonical state of a partition, `unknown` where no word is known, and what Slurm says."""
    words = [word.upper()[:WORD_MAX_CHARS] for word in _words([given])]
    known = [_QUEUE_STATES[word] for word in words if word in _QUEUE_STATES]
    return (known[0] if known else "unknown"), "+".join(words)
