"""Kinds of resources as people write them."""

from __future__ import annotations

from steersman.kinds.names import RESOURCE_FORMS, resource_kind_of, resource_plural
from steersman.kinds.plane_resources import KINDS
from steersman.kinds.resource import KIND_ALIASES


def test_every_kind_has_its_names_and_no_other_does() -> None:
    assert set(RESOURCE_FORMS) == set(KINDS)
    for kind in KINDS:
        for word in (kind, kind.upper(), resource_plural(kind), *RESOURCE_FORMS[kind]):
            assert resource_kind_of(word) == kind, word
    for alias, kind in KIND_ALIASES.items():
        assert resource_kind_of(alias) == kind
    assert resource_kind_of("session-part") == resource_kind_of("session_parts") == "SessionPart"
    assert resource_kind_of("gpu") is None
