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
from steersman.kinds.fields import check_fields

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


_WORDS = (b"# EOF", b"# TYPE ", b'{le="', b"+Inf", b"NaN", b" # {", b'="', b'",', b"\\n", b"<<<NULL>>>")
_DCGM = FakeDcgmExporter(fake_gpus(1), beside=True).page.encode()

TARGETS: dict[str, Target] = {
    "exposition": Target(read_exposition, (*SEEDS, _DCGM[:2000]), _WORDS),
    "mappings": Target(
        read_mappings, (*SEEDS, _DCGM), (*_WORDS, b"UUID", b"GPU_I_ID", b"9223372036854775794")
    ),
}
