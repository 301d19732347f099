"""The linter: each code has a table that brings it out, and its repair makes it go."""

from __future__ import annotations

import pytest

from steersman.act.lifecycle import lint_text, shipped

BASE = """
states:
  service: {schedulable: true}
  shop:
transitions:
  - {event: leave, from: service, to: shop, by: operator}
  - {event: back, from: shop, to: service, by: operator}
"""

CASES = {
    "unreachable": ("  shop:\n", "  shop:\n  lost:\n", "  - {event: x, from: lost, to: shop}\n"),
    "trap": ("  shop:\n", "  shop:\n  pit:\n", "  - {event: fall, from: shop, to: pit}\n"),
    "active_without_timeout": (
        "  shop:\n",
        "  shop:\n  work: {class: active}\n  failed:\n",
        "  - {event: go, from: shop, to: work}\n  - {event: fail, from: [work, failed], to: failed}\n",
    ),
    "active_without_failure_exit": (
        "  shop:\n",
        "  shop:\n  work: {class: active, deadline: 1h}\n",
        "  - {event: go, from: shop, to: work}\n  - {event: end, from: work, to: shop}\n",
    ),
    "ambiguous_guards": (
        "  shop:\n",
        "  shop:\n  lab:\n",
        (
            "  - {event: sort, from: shop, to: lab, guard: size(holds) == 0}\n"
            "  - {event: sort, from: shop, to: service, guard: health == 'ok'}\n"
            "  - {event: out, from: lab, to: shop}\n"
        ),
    ),
    "unverified_return": (
        "  shop:\n",
        "  shop:\n  flash: {is_a: firmware_update}\n",
        "  - {event: go, from: shop, to: flash}\n  - {event: end, from: flash, to: service}\n",
    ),
    "cycle_without_human_or_timer": (
        "  shop:\n",
        "  shop:\n",
        (
            "  - {event: in, from: service, to: shop, by: engine}\n"
            "  - {event: o, from: shop, to: service, by: monitor}\n"
        ),
    ),
    "role_cannot_leave": (
        "  shop:\n",
        "  shop:\n  pen:\n",
        (
            "  - {event: pen, from: shop, to: pen, by: engine}\n"
            "  - {event: out, from: pen, to: shop, by: timer}\n"
        ),
    ),
    "unknown_phase": ("  shop:\n", "  shop: {phase: wash}\n", "phases: {dry: {steps: []}}\n"),
    "unknown_budget": ("  shop:\n", "  shop:\n", "  - {event: b, from: shop, to: service, budget: gold}\n"),
    "unknown_guard": ("  shop:\n", "  shop:\n", "  - {event: b, from: shop, to: service, guard: fine}\n"),
    "guard_invalid": ("  shop:\n", "  shop:\n", "  - {event: b, from: shop, to: service, guard: '1 +'}\n"),
    "phase_end_refused": (
        "  shop:\n",
        "  shop: {phase: wash, on_success: back}\n",
        "phases: {wash: {steps: []}}\n",
    ),
    "phase_without_end": ("  shop:\n", "  shop: {phase: wash}\n", "phases: {wash: {steps: []}}\n"),
    "timeout_not_for_timer": (
        "  shop:\n",
        "  shop:\n",
        "  - {event: timeout, from: shop, to: service, by: operator}\n",
    ),
    "never_schedulable": ("  service: {schedulable: true}\n", "  service:\n", ""),
}


def test_the_plain_table_is_clean():
    assert lint_text(BASE, "base.yaml") == []


@pytest.mark.parametrize("code", CASES)
def test_each_code_is_found_with_its_place(code: str):
    old, new, more = CASES[code]
    findings = lint_text(BASE.replace(old, new) + more, "site.yaml")
    (finding,) = [one for one in findings if one.code == code]
    assert finding.place.file == "site.yaml"
    assert finding.place.line > 1
    assert finding.message
    assert finding.fix


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("health == 'ok'", "health != 'ok'"),
        ("health == 'ok'", "health == 'bad'"),
        ("health == 'ok'", "!(health == 'ok')"),
    ],
)
def test_guards_that_are_plainly_opposite_are_not_ambiguous(first: str, second: str):
    lines = (
        f'  - {{event: sort, from: shop, to: shop, guard: "{first}"}}\n'
        f'  - {{event: sort, from: shop, to: service, guard: "{second}"}}\n'
    )
    assert "ambiguous_guards" not in {one.code for one in lint_text(BASE + lines, "site.yaml")}


def test_the_shipped_tables():
    by_name = {loaded.lifecycle.name: loaded for loaded in shipped()}
    assert by_name["hpc-default"].findings == ()
    found = by_name["rfd-three-state"].findings
    assert {one.severity for one in found} == {"warning"}
    assert "unverified_return" in {one.code for one in found}
