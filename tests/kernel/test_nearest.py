"""Proposals for wrong names."""

from __future__ import annotations

import pytest

from steersman.kernel.nearest import did_you_mean, nearest


@pytest.mark.parametrize(
    ("name", "found"),
    [("prot", "port"), ("PORT", "port"), ("body-max", "body_max"), ("zzz", None), ("", None)],
)
def test_nearest(name: str, found: str | None) -> None:
    assert nearest(name, ["port", "host", "body_max"]) == found


def test_did_you_mean() -> None:
    assert did_you_mean("hots", ["host"]) == "; did you mean host?"
    assert did_you_mean("x" * 100_000, ["host"]) == ""
