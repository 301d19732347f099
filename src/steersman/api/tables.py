"""Lifecycles over HTTP: which are loaded, each as data, YAML or a drawing, and the linter for one's own."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Response
from litestar.params import QueryParameter
from msgspec import Struct

from steersman.api.control import control_of
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, read_json
from steersman.api.wishes import TextWish
from steersman.kernel.errors import InvalidInput

FORMS = "^(json|yaml|mermaid|dot)$"


class TableFinding(Struct, frozen=True):
    """What the linter says of a table. `severity`: error or warning; `line` and `column` from 1."""

    code: str
    severity: str
    message: str
    fix: str = ""
    file: str = ""
    line: int = 0
    column: int = 0


class TableInfo(Struct, frozen=True):
    """A loaded lifecycle in short. `in_force`: the version that the bare name stands for."""

    name: str
    version: str
    digest: str
    place: str
    in_force: bool
    findings: list[TableFinding]


class TableList(Struct, frozen=True):
    """All loaded lifecycles."""

    items: list[TableInfo]


class LintAnswer(Struct, frozen=True):
    """What the linter says of a text. `ok`: it may be used; warnings do not stand against that."""

    ok: bool
    name: str
    findings: list[TableFinding]


async def list_lifecycles(request: Asked) -> Answer:
    """Lifecycles that are loaded, each version."""
    items = [
        TableInfo(
            one.name,
            one.version,
            one.digest,
            one.place,
            getattr(one, "in_force", True),
            list(map(_finding, one.findings)),
        )
        for one in control_of(request).lifecycles.list()
    ]
    return json_answer(TableList(items))


async def get_lifecycle(
    request: Asked,
    form: Annotated[
        str, QueryParameter(name="format", description="json, yaml, mermaid or dot", pattern=FORMS)
    ] = "json",
    current: Annotated[
        str | None, QueryParameter(name="current", description="A state to mark in a drawing", max_length=64)
    ] = None,
) -> Answer:
    """A lifecycle by `name` or `name@version`."""
    lifecycle = control_of(request).lifecycles.machine(exchange_of(request).parameters["name"]).lifecycle
    if form == "json":
        return json_answer(lifecycle)
    if form == "yaml":
        return _text(msgspec.yaml.encode(msgspec.to_builtins(lifecycle)).decode(), "application/yaml")
    from steersman.act.lifecycle import dot, mermaid  # what is acted with is loaded where it is used

    marked = None if current is None else lifecycle.canonical(current)
    if form == "mermaid":
        return _text(mermaid(lifecycle, marked), "text/vnd.mermaid")
    return _text(dot(lifecycle, marked), "text/vnd.graphviz")


async def lint_lifecycle(request: Asked) -> Answer:
    """Judge a lifecycle that somebody is writing; nothing is loaded."""
    control_of(request)
    wish = await read_json(exchange_of(request), TextWish)
    return json_answer(lint(wish.text, wish.file))


def lint(text: str, file: str) -> LintAnswer:
    """What the linter says; a text that is no lifecycle is one finding."""
    from steersman.act.lifecycle.loading import lint_text  # what is acted with is loaded where it is used
    from steersman.kinds.lifecycle import Lifecycle

    try:
        findings = [_finding(one) for one in lint_text(text, file)]
        name = str(Lifecycle.from_yaml(text, file))
    except InvalidInput as error:
        line, column = (error.facts.get(name, 0) for name in ("line", "column"))
        return LintAnswer(
            False, "", [TableFinding(error.code, "error", error.detail, "", file, line, column)]
        )
    return LintAnswer(not any(one.severity == "error" for one in findings), name, findings)


def _finding(one: Any) -> TableFinding:
    place = one.place
    return TableFinding(one.code, one.severity, one.message, one.fix, place.file, place.line, place.column)


def _text(text: str, media_type: str) -> Answer:
    return Response(text.encode(), media_type=f"{media_type}; charset=utf-8")
