"""What the API answers about lifecycle tables; the client reads it back into the same types."""

from __future__ import annotations

from msgspec import Struct


class TableFinding(Struct, frozen=True, kw_only=True):
    """What the linter says of a table. `severity`: error or warning; `line` and `column` from 1."""

    code: str
    severity: str
    message: str
    fix: str = ""
    file: str = ""
    line: int = 0
    column: int = 0


class TableInfo(Struct, frozen=True, kw_only=True):
    """A loaded lifecycle in short. `in_force`: the version that the bare name stands for."""

    name: str
    version: str
    digest: str = ""
    place: str = ""
    in_force: bool = True
    findings: tuple[TableFinding, ...] = ()


class TableInfos(Struct, frozen=True):
    """All loaded lifecycles."""

    items: tuple[TableInfo, ...]


class Linted(Struct, frozen=True, kw_only=True):
    """What the linter says of a text. `ok`: it may be used; warnings do not stand against that."""

    ok: bool
    name: str = ""
    findings: tuple[TableFinding, ...] = ()
