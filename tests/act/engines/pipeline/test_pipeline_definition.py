"""A pipeline that is read: what is refused, where, and with which words; and what the old words mean."""

from __future__ import annotations

from typing import Any

import pytest

from steersman.act.engines.pipeline import PipelineInvalid, read_plan
from steersman.act.engines.pipeline.inputs import (
    InputMissing,
    ReferenceInvalid,
    fill,
    references,
    with_later,
)
from steersman.kinds.step import Later


def step(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"name": name, "uses": "process", **more}


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({"step": []}, "did you mean steps"),
        ({"steps": {}}, "steps: is a list"),
        ({"steps": ["a"]}, r"steps\[0\]: is a mapping"),
        ({"steps": [{"name": "A", "uses": "x"}]}, r"steps\[0\].name"),
        ({"steps": [{"name": "a"}]}, r"steps\[0\].uses"),
        ({"steps": [step(use="x")]}, "did you mean uses"),
        ({"steps": [step(handler="x")]}, "one thing"),
        ({"steps": [step(), step()]}, "step a a second time"),
        ({"steps": [step(needs=["b"]), step("bb")]}, "step b, which is not there; did you mean bb"),
        ({"steps": [step(needs=["b"]), step("b", needs=["c"]), step("c", needs=["b"])]}, "b -> c -> b"),
        ({"steps": [step(needs=["a"])]}, "a -> a"),
        ({"steps": [step(timeout="0s")]}, r"steps\[0\].timeout"),
        ({"steps": [step(timeout="x")]}, r"steps\[0\].timeout"),
        ({"steps": [step(retry={"max_attempts": 0})]}, r"steps\[0\].retry.max_attempts"),
        ({"steps": [step(retry={"attempts": 2})]}, "did you mean max_attempts"),
        ({"steps": [step(retry={"delay": "-1s"})]}, r"steps\[0\].retry.delay"),
        ({"steps": [step(retry={"backoff": 0.5})]}, r"steps\[0\].retry.backoff"),
        ({"steps": [step(optional="yes")]}, r"steps\[0\].optional"),
        ({"steps": [step(skip_when="resource.status ==")]}, r"steps\[0\].skip_when"),
        ({"steps": [step(skip_when="resorce.status == 'x'")]}, "resorce"),
        ({"steps": [step(), step("b", skip_when="steps.a.outputs.x")]}, "none of the steps that b needs"),
        ({"steps": [step(skip_when="steps.a.output.x")]}, "none of the steps that a needs"),
        ({"steps": [step(), step("b", needs=["a"], skip_when="steps.a.output.x")]}, "outputs, status"),
        ({"steps": [step(inputs={"x": "${nothing.x}"})]}, "there is no nothing"),
        ({"steps": [step(inputs={"x": "${resource.id"})]}, "without its end"),
        ({"steps": [step(inputs={"x": ["${a b}"]})]}, "is no reference"),
        ({"steps": [step(), step("b", inputs={"x": "${steps.a.outputs.y}"})]}, "that b needs"),
        ({"steps": [step(inputs={"x": "${operation.name}"})]}, "id and epoch"),
        ({"steps": [step()], "outputs": {"x": "$STEPS.b.y"}}, "step b, which is not there"),
        ({"steps": [step()], "outputs": {"x": "a"}}, "outputs.x"),
        ({"steps": [step()], "max_parallel": 17}, "max_parallel"),
        ({"steps": [step()], "max_duration": "0s"}, "max_duration"),
        ({"steps": [step(f"s{n}") for n in range(65)]}, "at most 64"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_with_its_place(definition: dict[str, Any], words: str) -> None:
    with pytest.raises(PipelineInvalid, match=words):
        read_plan(definition)


def test_order_is_the_written_one_as_far_as_needs_allow() -> None:
    plan = read_plan({"steps": [step("c", needs=["a"]), step("b"), step("a", needs=["b"])]})
    assert [one.name for one in plan.steps] == ["b", "a", "c"]


def test_the_older_words_mean_the_same() -> None:
    old = {"name": "a", "handler": "h", "params": {"x": 1}, "timeout_seconds": 5,
           "retry": {"max_attempts": 3, "delay_seconds": 2}}  # fmt: skip
    new = {"name": "a", "uses": "h", "inputs": {"x": 1}, "timeout": "5s",
           "retry": {"max_attempts": 3, "delay": "2s"}}  # fmt: skip
    assert read_plan({"steps": [old]}).steps == read_plan({"steps": [new]}).steps


def test_no_steps_is_a_pipeline() -> None:
    assert read_plan(None).steps == ()


def test_the_digest_tells_definitions_apart() -> None:
    one, other = read_plan({"steps": [step()]}), read_plan({"steps": [step(timeout="9s")]})
    assert one.digest == read_plan({"steps": [step()]}).digest != other.digest


NAMES = {"resource": {"id": "n1", "metadata": {"command": ["a", "b"], "n": 3, "no": None}}}


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ("${resource.metadata.command}", ["a", "b"]),
        ("${ resource.metadata.n }", 3),
        ("is ${resource.metadata.n} of ${resource.id}", "is 3 of n1"),
        ("${resource.metadata.command.1}", "b"),
        ("$${resource.id} costs $5", "${resource.id} costs $5"),
        ({"a": ["${resource.id}", 1, None]}, {"a": ["n1", 1, None]}),
    ],
)
def test_references_are_filled(value: Any, filled: Any) -> None:
    assert fill(value, NAMES) == filled


def test_nothing_that_was_filled_in_is_read_again() -> None:
    names = {"resource": {"metadata": {"x": "${resource.secret}"}, "secret": "s"}}
    assert fill("${resource.metadata.x}", names) == "${resource.secret}"
    assert fill("- ${resource.metadata.x}", names) == "- ${resource.secret}"


@pytest.mark.parametrize("text", ["${resource.metadata.no}", "x ${resource.other}", "${resource.id.x}"])
def test_what_is_not_there_is_named(text: str) -> None:
    with pytest.raises(InputMissing, match="is not there"):
        fill(text, NAMES)


def test_a_text_that_grows_too_long_is_refused() -> None:
    with pytest.raises(InputMissing, match="more than"):
        fill("${inputs.x}" * 3 + "!", {"inputs": {"x": "y" * 30_000}})


def test_a_check_sees_what_comes_later() -> None:
    seen = with_later({"argv": ["echo", "${resource.id}"], "x": "$${plain}"})
    assert seen == {"argv": ["echo", Later("${resource.id}")], "x": "${plain}"}


def test_inputs_too_deep_are_refused() -> None:
    deep: Any = "x"
    for _ in range(20):
        deep = [deep]
    with pytest.raises(ReferenceInvalid, match="nested"):
        list(references(deep))
