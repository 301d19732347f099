"""A source's record: figures over a window, bounded and redacted."""

from __future__ import annotations

from datetime import UTC, datetime

from steersman.observe.judge import DETAIL_MAX_CHARS, WINDOW, Record, shortened

AT = datetime(2026, 1, 1, tzinfo=UTC)


def test_percentiles_are_nearest_rank_over_the_window() -> None:
    record = Record()
    for ms in range(1, 1001):
        record.succeeded(AT, ms / 1000.0, 1, [])
    assert record.percentile_ms(0.5) == 1000 - WINDOW / 2
    assert record.percentile_ms(0.99) == 999
    assert record.fragments == 1000


def test_the_error_rate_forgets_what_left_the_window() -> None:
    record = Record()
    for _ in range(WINDOW):
        record.failed("no")
    assert record.error_rate == 1.0
    for _ in range(WINDOW // 2):
        record.succeeded(AT, 0.1, 0, [])
    assert record.error_rate == 0.5
    assert record.failures == 0


def test_a_source_never_answered_has_no_latency() -> None:
    record = Record()
    record.failed("no")
    fields = record.fragment("a", "d", "", "steersman", AT).fields
    assert "latency_p50_ms" not in fields
    assert "last_success_at" not in fields
    assert fields["up"] is False


def test_texts_are_one_safe_short_line() -> None:
    assert shortened("a\n\tb  token=abc") == "a b token=***"
    assert len(shortened("x" * 10_000)) == DETAIL_MAX_CHARS


def test_a_line_is_of_whole_characters() -> None:
    """A file name that is not UTF-8 reaches us with halves of characters, which no answer can carry."""
    assert shortened("file system /mnt/\udcff can't be read") == "file system /mnt/\\udcff can't be read"
