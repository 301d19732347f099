"""Files of several documents: read one by one, with the lines of the file."""

from __future__ import annotations

import pytest

from steersman.cli.documents import Bad, Document, documents

FILE = """\
# nodes of rack r7
kind: Node
id: n1
labels: {rack: r7}
---
kind: nodes
id: n2
lables: {rack: r7}
---
kind: Node
id: [
---
--- {kind: node, id: n3}
...
---
kind: Node
id: n4
status: in_service
---
kind: Nodle
id: n5
---
- 1
---
kind: Node
"""


def test_each_document_has_its_own_result_and_place() -> None:
    found = list(documents(FILE, "rack.yaml"))
    assert [type(one) for one in found] == [Document, Bad, Bad, Document, Bad, Bad, Bad, Bad]
    assert [one.place for one in found] == [
        "rack.yaml:2",
        "rack.yaml:8",
        "rack.yaml:12",
        "rack.yaml:13",
        "rack.yaml:18",
        "rack.yaml:20",
        "rack.yaml:23",
        "rack.yaml:25",
    ]
    first = found[0]
    assert isinstance(first, Document)
    assert (first.kind, first.name, first.spec) == ("Node", "n1", {"labels": {"rack": "r7"}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Node\nid: n1\nlables: {}\n", "did you mean labels"),
        ("kind: Node\nid: n1\nstatus: x\n", "desired_status"),
        ("kind: Nodle\nid: n1\n", "did you mean Node"),
        ("kind: Node\n", "id is missing"),
        ("a\n", "a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest(text: str, said: str) -> None:
    (one,) = documents(text, "x.yaml")
    assert isinstance(one, Bad)
    assert said in one.error.detail


def test_empty_documents_are_passed_over() -> None:
    assert list(documents("", "x")) == []
    assert list(documents("---\n---\n# nothing\n---\n", "x")) == []
