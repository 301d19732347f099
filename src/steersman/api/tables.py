"""Lifecycles over HTTP: which are loaded, each as data, YAML or a drawing, and the linter for one's own."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Response
from litestar.params import QueryParameter

from steersman.api.control import control_of
from steersman.api.framework import Answer, Asked, exchange_of, json_answer, read_json
from steersman.api.wishes import TextWish
from steersman.kernel.errors import InvalidInput
from steersman.kinds.tables import Linted, TableFinding, TableInfo, TableInfos

FORMS = "^(json|yaml|mermaid|dot)$"


async def list_lifecycles(request: Asked) -> Answer:
    """Lifecycles that are loaded, each version."""
    items = tuple(
        TableInfo(
            name=one.name,
            version=one.version,
            digest=one.digest,
            place=one.place,
            in_force=getattr(one, "in_force", True),
            findings=tuple(map(_finding, one.findings)),
        )
        for one in control_of(request).lifecycles.list()
    )
    return json_answer(TableInfos(items))


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


def lint(text: str, file: str) -> Linted:
    """What the linter says; a text that is no lifecycle is one finding."""
    from steersman.act.lifecycle.loading import lint_text  # what is acted with is loaded where it is used
    from steersman.kinds.lifecycle import Lifecycle

    try:
        findings = tuple(map(_finding, lint_text(text, file)))
        name = str(Lifecycle.from_yaml(text, file))
    except InvalidInput as error:
        line, column = (error.facts.get(name, 0) for name in ("line", "column"))
        finding = TableFinding(
            code=error.code, severity="error", message=error.detail, file=file, line=line, column=column
        )
        return Linted(ok=False, findings=(finding,))
    return Linted(ok=not any(one.severity == "error" for one in findings), name=name, findings=findings)


def _finding(one: Any) -> TableFinding:
    place = one.place
    return TableFinding(
        code=one.code,
        severity=one.severity,
        message=one.message,
        fix=one.fix,
        file=place.file,
        line=place.line,
        column=place.column,
    )


def _text(text: str, media_type: str) -> Answer:
    return Response(text.encode(), media_type=f"{media_type}; charset=utf-8")
