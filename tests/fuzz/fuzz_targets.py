"""What is fuzzed: each target takes any bytes and breaks where the code under it breaks a promise.

To add one: a function of bytes that raises only on a fault, seeds that show its grammar, a line in
`TARGETS`, and its package in `run_fuzz.py`, so that its coverage guides the search.

`tests/fuzz/run_fuzz.py` runs them with coverage (`make fuzz`), `test_fuzz.py` for a bounded time in tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from steersman.drivers.dcgm.fake import FakeDcgmExporter, fake_gpus
from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.exposition.plan import Plan
from steersman.drivers.exposition.series import Page, SeriesCache
from steersman.drivers.slurm import SlurmOptions
from steersman.drivers.slurm.entities import Translator
from steersman.drivers.slurm.hostlist import HostListInvalid, expand_hosts
from steersman.drivers.slurm.picture import Picture
from steersman.drivers.slurm.tags import find_tag, read_tag
from steersman.drivers.slurm.text import (
    read_controller,
    read_jobs,
    read_nodes,
    read_partitions,
    read_reservations,
)
from steersman.drivers.slurm.tres import gpus_of, parse_gres, parse_tres, slices_of
from steersman.drivers.slurm.values import duration_s, exit_code_of, memory_bytes, time_of
from steersman.kinds.fields import check_fields
from steersman.testing.driver import context

AT = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = [open_mapping("dcgm"), open_mapping("node-exporter"), open_mapping("vllm")]

SEEDS = (
    b"a 1\n",
    b'a{b="c"} 1.5 1700000000000\n',
    b'# HELP a b\n# TYPE a gauge\na{b="\\"\\\\\\n",c="d"} +Inf\n# EOF\n',
    b'{"a.b",c="d"} NaN\n',
    b'x_bucket{le="0.5"} 3 # {trace="1"} 0.4 1\n',
    b'node_cpu_seconds_total{cpu="0",mode="idle"} 1e3\nnode_uname_info{nodename="n1"} 1\n',
    b"a 1\na 2_0_x\na 1_0\n",
    b'a 1 # {t="1"} 1 1\na 2\na 3 1700000000000\na 4\n',
    b'vllm:num_requests_running{model_name="m"} 3\n',
    b'DCGM_FI_DEV_CLOCK_THROTTLE_REASONS{UUID="GPU-1"} 68\n',
)


@dataclass(frozen=True)
class Target:
    """`run` takes any bytes; `seeds` are where the search begins, `words` what it may put in."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()


class _Series:
    """Takes every series, and knows its name."""

    def __init__(self) -> None:
        self.names: dict[int, Any] = {}
        self.cache = SeriesCache(self._want, lambda gone: [self.names.pop(i, None) for i in gone])

    def _want(self, index: int, name: str, labels: dict[str, str]) -> bool:
        assert name, "a series without a name"
        self.names[index] = (name, tuple(sorted(labels.items())))
        return True

    def read(self, text: str, *, openmetrics: bool) -> tuple[Page, dict[Any, str]]:
        """The page, and its values by series."""
        page = self.cache.read(text, openmetrics=openmetrics)
        return page, {
            self.names[index]: repr((value, page.stamps.get(index)))
            for index, value in enumerate(page.numbers)
            if index and value is not None
        }


def read_exposition(data: bytes) -> None:
    """The text parser: it raises nothing, and a page that is read again says the same again, by the path that
    remembers and by a cache that never saw it."""
    openmetrics = data[:1] == b"O"
    text = data.decode("utf-8", "surrogateescape")
    known = _Series()
    first, values = known.read(text, openmetrics=openmetrics)
    again, same = known.read(text, openmetrics=openmetrics)
    fresh = _Series().read(text, openmetrics=openmetrics)[1]
    assert values == same == fresh, "a page says something else when it is read again"
    assert (first.malformed, first.ended) == (again.malformed, again.ended)
    assert first.samples <= text.count("\n") + 1


def read_mappings(data: bytes) -> None:
    """The mapping reader: three pages (the data, it again, its first half) give fragments that may stand."""
    text = data.decode("utf-8", "surrogateescape")
    plan = Plan(TABLES, "source", {"cluster": "lab"})
    cache = SeriesCache(plan.want, plan.forget)
    for turn, page in enumerate((text, text, text[: len(text) // 2])):
        read = plan.build(cache.read(page), AT, 10.0 * turn, {"@instance": "n1:9100", "@source": "s"})
        for fragment in read.fragments:
            assert check_fields(fragment.entity_type, fragment.fields) == []
            assert not any(name.startswith("_") for name in fragment.fields)
            assert fragment.observed_at <= AT
            msgspec.json.encode(fragment)
        msgspec.json.encode([read.warnings, read.drift])


def read_slurm_text(data: bytes) -> None:
    """Text of scontrol and sdiag: nothing raises, and what is told of it may stand."""
    text = data.decode("utf-8", "replace")
    picture = Picture(
        nodes=read_nodes(text),
        jobs=read_jobs(text),
        partitions=read_partitions(text),
        reservations=read_reservations(text),
        controller=read_controller(text, text, text),
    )
    for fragment in Translator(SlurmOptions(via="commands"), context()).fragments(picture, AT).told:
        assert check_fields(fragment.entity_type, fragment.fields) == []
        msgspec.json.encode(fragment)


def read_slurm_words(data: bytes) -> None:
    """Lists of hosts, GRES, TRES, numbers and our own tags: a list is refused in one way, and written out
    it is itself; counts are never below 0."""
    text = data.decode("utf-8", "replace")
    try:
        hosts = expand_hosts(text, HOSTS_MAX)
    except HostListInvalid:
        pass
    else:
        assert len(hosts) == len(set(hosts)) <= HOSTS_MAX
        assert expand_hosts(",".join(hosts), HOSTS_MAX) == hosts
    entries = parse_gres(text).entries
    assert all(entry.count >= 0 for entry in entries)
    assert (gpus_of(entries) or 0) >= 0
    slices_of(entries)
    assert all(count >= 0 for count in parse_tres(text).values())
    for read in (duration_s, memory_bytes, exit_code_of, time_of):
        read(text)
    tag = read_tag(text)
    if tag is not None and "; " not in text:
        assert find_tag(text)[1] is not None


HOSTS_MAX = 5_000
_SLURM_LINES = tuple(
    line.encode()
    for line in """\
NodeName=n1 CPUAlloc=1 CPUTot=64 CPULoad=3.25 Gres=gpu:h100:8(S:0-1) NodeAddr=192.0.2.1 OS=Linux 6.1 #1 \
RealMemory=512000 AllocMem=10 FreeMem=16598 State=MIXED+DRAIN Partitions=main,low \
BootTime=2026-11-24T06:55:21 GresUsed=gpu:h100:2(IDX:0-1) Reason=bad disk [root@2026-11-24T16:22:13]
JobId=7 ArrayJobId=7 ArrayTaskId=1-5%2 JobName=train UserId=ada(1) JobState=RUNNING Reason=None \
Partition=main,low SubmitTime=2026-11-24T16:22:13 TimeLimit=1-02:00:00 NodeList=n[1-3,07-09] NumNodes=3 \
TRES=cpu=1,mem=10M,node=1,gres/gpu=2 Restarts=1 AdminComment=x; steersman:op e3 k after 0 restarts
PartitionName=main State=UP Nodes=n[1-3] TotalNodes=3 TotalCPUs=64 MaxTime=UNLIMITED TRES=cpu=1,gres/gpu=8
ReservationName=r StartTime=2026-11-24T16:22:15 EndTime=2026-11-24T16:32:15 Nodes=n1 Flags=MAINT Users=a
Slurmctld(primary) at ctl is UP
Server thread count:  3
Agent queue size:  0
""".splitlines(keepends=True)
)
_SLURM_SEEDS = (
    b"n[1-3,07-09],x[1-2]y[3-4]", b"gpu:1g.10gb:21(S:1),gpu:a100:3(IDX:0-1,5)",
    b"gres/gpu:h100=8,cpu=64,mem=500G", b"1-02:03:04", b"500G", b"0:9", b"2026-11-24T16:22:15",
    b"steersman:op-1 e3 new firmware (Node/n1) : Kill task failed",
)  # fmt: skip
_SLURM_WORDS = (
    b"NodeName=", b"JobId=", b"State=", b"Reason=", b"(null)", b"N/A", b"4294967294", b"[0-9]",
    b"(IDX:", b"gpu:", b"gres/", b" e1 ", b"steersman:",
)  # fmt: skip

_WORDS = (b"# EOF", b"# TYPE ", b'{le="', b"+Inf", b"NaN", b" # {", b'="', b'",', b"\\n", b"<<<NULL>>>")
_DCGM = FakeDcgmExporter(fake_gpus(1), beside=True).page.encode()

TARGETS: dict[str, Target] = {
    "exposition": Target(read_exposition, (*SEEDS, _DCGM[:2000]), _WORDS),
    "mappings": Target(
        read_mappings, (*SEEDS, _DCGM), (*_WORDS, b"UUID", b"GPU_I_ID", b"9223372036854775794")
    ),
    "slurm_text": Target(read_slurm_text, (*_SLURM_LINES, b"".join(_SLURM_LINES)), _SLURM_WORDS),
    "slurm_words": Target(read_slurm_words, _SLURM_SEEDS, _SLURM_WORDS),
}
