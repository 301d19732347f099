"""Definitions: the rules of the two sources, versions, and the catalogue's kinds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from steersman.kinds.definition import (
    CHILDREN_MAX,
    DEFINITION_KINDS,
    CatalogueEntry,
    ChildRequirement,
    DefinitionInvalid,
    Form,
    OnChildFailure,
    ProvisioningSource,
    ResourceDefinition,
    SessionDefinition,
    version_order,
)
from steersman.kinds.phase import LifecyclePhase, PhaseInvalid
from steersman.kinds.resource import RESOURCE_KINDS


def test_a_seed_is_published_and_never_synced():
    seed = ResourceDefinition(type_key="lab")
    assert seed.provisioning_source is ProvisioningSource.SEED
    assert seed.definition_status == "published"
    assert seed.sync_status is None
    assert seed.ref == "lab@1"


def test_a_content_package_begins_as_a_draft_that_waits_for_its_sync():
    package = ResourceDefinition(type_key="form", provisioning_source=ProvisioningSource.CONTENT_PACKAGE)
    assert package.definition_status == "draft"
    assert package.sync_status == "pending_sync"


@pytest.mark.parametrize("status", ["draft", "published", "deprecated", "Deprecated", "PUBLISHED"])
@pytest.mark.parametrize("sync", ["pending_sync", "sync_requested", "syncing", "synced", "failed", "SYNCED"])
def test_a_content_package_has_both_statuses_in_any_case(status: str, sync: str):
    package = ResourceDefinition(
        type_key="form",
        provisioning_source="content_package",  # type: ignore[arg-type]
        definition_status=status,
        sync_status=sync,
    )
    assert (package.definition_status, package.sync_status) == (status.lower(), sync.lower())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"type_key": ""}, "type_key"),
        ({"type_key": "a@b"}, "without @"),
        ({"version": ""}, "version"),
        ({"version": "1@2"}, "without @"),
        ({"provisioning_source": "git"}, "one of seed, content_package, not 'git'"),
        ({"definition_status": "draft"}, "lab@1: a seed definition is always published"),
        ({"definition_status": "retired"}, "one of draft, published, deprecated"),
        ({"sync_status": "synced"}, "has no sync_status"),
        ({"provisioning_source": "content_package", "sync_status": "gone"}, "sync_status is one of"),
        ({"child_requirements": [{"order": 1}]}, "child_requirements"),
        ({"child_requirements": [{"kind": "SessionPart", "count": -1}]}, "child_requirements"),
        ({"child_requirements": [ChildRequirement(kind="X")] * (CHILDREN_MAX + 1)}, "at most"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(change: dict[str, Any], says: str):
    with pytest.raises(DefinitionInvalid, match=says):
        ResourceDefinition(**{"type_key": "lab", **change})


def test_its_lifecycle_template_is_read_when_it_is_made():
    with pytest.raises(PhaseInvalid, match="engine"):
        ResourceDefinition(type_key="lab", lifecycle_template={"phases": {"boot": {"engine": "cron"}}})
    lab = ResourceDefinition(type_key="lab", lifecycle_template={"phases": [{"name": "boot"}]})
    assert lab.lifecycle().phases == (LifecyclePhase("boot"),)
    assert ResourceDefinition(type_key="x").lifecycle().phases == ()


def test_a_definition_is_a_value():
    with pytest.raises(AttributeError):
        ResourceDefinition(type_key="lab").version = "2"  # type: ignore[misc]


def test_children_are_read_from_mappings():
    session = SessionDefinition(
        type_key="expertlab",
        child_requirements=[{"kind": "SessionPart", "definition": "des@1", "on_failure": "abort"}],  # type: ignore[list-item]
    )
    assert session.child_requirements == [
        ChildRequirement(kind="SessionPart", definition="des@1", on_failure=OnChildFailure.ABORT)
    ]


def test_only_a_seed_is_reseeded_and_only_where_asked():
    seed = ResourceDefinition(type_key="lab")
    package = ResourceDefinition(type_key="f", provisioning_source=ProvisioningSource.CONTENT_PACKAGE)
    assert seed.may_be_reseeded(replace=True)
    assert not seed.may_be_reseeded(replace=False)
    assert not package.may_be_reseeded(replace=True)


def test_a_form_comes_from_a_content_package_and_knows_when_it_is_synced():
    form = Form(type_key="Exam Associate AUTO v1.1 LAB LAB-2.5.1")
    assert form.provisioning_source is ProvisioningSource.CONTENT_PACKAGE
    assert not form.is_synced()
    synced = msgspec.structs.replace(form, sync_status="synced", synced_at=datetime(2026, 1, 1))  # noqa: DTZ001
    assert synced.is_synced()
    assert synced.synced_at == datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(DefinitionInvalid, match="never from a seed"):
        Form(type_key="f", provisioning_source=ProvisioningSource.SEED)


def test_what_is_made_from_each_kind_of_definition():
    """The catalogue to runtime map; a form and configuration make nothing."""
    made = {kind: cls.INSTANCE for kind, cls in DEFINITION_KINDS.items()}
    assert made == {
        "SessionDefinition": "Session",
        "PartDefinition": "SessionPart",
        "PodDefinition": "PodInstance",
        "HostDefinition": "Host",
        "JobDefinition": "Job",
        "ReportDefinition": "Report",
        "Form": None,
        "CatalogueEntry": None,
    }
    assert {kind for kind in made.values() if kind} < set(RESOURCE_KINDS)


def test_configuration_of_the_catalogue_is_one_of_four_kinds():
    entry = CatalogueEntry(type_key="lab-1", entry_kind="LabLocation", spec={"city": "Bern"})
    assert msgspec.json.decode(msgspec.json.encode(entry), type=CatalogueEntry) == entry
    with pytest.raises(msgspec.ValidationError, match="entry_kind"):
        msgspec.json.decode(b'{"type_key": "x", "entry_kind": "Device"}', type=CatalogueEntry)


def test_versions_sort_as_people_count():
    versions = ["2.10", "2.7", "v2.9", "2.0-rc1", "2.0", "2.0.1", "2.0-rc2", "10", "1.0a"]
    assert sorted(versions, key=version_order) == [
        "1.0a",
        "2.0-rc1",
        "2.0-rc2",
        "2.0",
        "2.0.1",
        "2.7",
        "v2.9",
        "2.10",
        "10",
    ]
