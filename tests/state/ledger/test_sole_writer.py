"""Nothing but the Ledger writes what is the Ledger's: held in the source, beside the guard at run time."""

from __future__ import annotations

import ast
from pathlib import Path

from steersman.state.ledger.keys import RESERVED

SOURCE = Path(__file__).parents[3] / "src" / "steersman"
ROOM = SOURCE / "state" / "ledger"
MAY_NAME_A_PREFIX = {
    ROOM / "keys.py",
    SOURCE / "state" / "tail.py",  # reads the outbox, and never commits: below
}
WRITES = {"Put", "Delete"}


def others() -> list[Path]:
    return [path for path in sorted(SOURCE.rglob("*.py")) if ROOM not in path.parents]


def literals(tree: ast.AST) -> list[str]:
    """Texts in the code, those in f-strings among them; docstrings are none of them."""
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_nobody_else_spells_a_reserved_key_in_a_write() -> None:
    found: list[str] = []
    for path in others():
        tree = ast.parse(path.read_text())
        from_keys = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("steersman.state.ledger")
            for alias in node.names
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in WRITES):
                continue
            named = {name.id for arg in node.args[:1] for name in ast.walk(arg) if isinstance(name, ast.Name)}
            texts = [text for arg in node.args[:1] for text in literals(arg)]
            if named & from_keys or any(text.startswith(RESERVED) for text in texts):
                found.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert found == [], "ask the Ledger for the change"


def test_nobody_else_keeps_a_reserved_prefix_to_write_with() -> None:
    """A module that spells one of the prefixes itself has no commit in it."""
    found: list[str] = []
    for path in others():
        tree = ast.parse(path.read_text())
        spelled = [
            text for text in literals(tree) if text in RESERVED or (text + "/" in RESERVED and "/" in text)
        ]
        commits = any(isinstance(node, ast.Attribute) and node.attr == "commit" for node in ast.walk(tree))
        if spelled and (commits or path not in MAY_NAME_A_PREFIX) and SOURCE / "testing" not in path.parents:
            found.append(f"{path.relative_to(SOURCE)}: {spelled}")
    assert found == [], "build keys with steersman.state.ledger.keys"


def test_the_room_itself_commits_in_one_module() -> None:
    commits = {
        path.name
        for path in ROOM.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "commit" and "store" in ast.unparse(node.value)
    }
    assert commits == {"commit.py", "guard.py"}
