"""The public surface: exactly these names, loaded only when they are used."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import steersman

PUBLIC = {
    "CanonicalEntity",
    "ConfigSnapshotEntity",
    "DataPipelineStageEntity",
    "DeploymentEntity",
    "EntityType",
    "ExperimentTrackerEntity",
    "GPUEntity",
    "HealthState",
    "Host",
    "HostState",
    "Job",
    "JobEntity",
    "Lifecycle",
    "LifecyclePhase",
    "LockHandle",
    "ManagedLifecycle",
    "MergeOutcome",
    "ModelRevisionEntity",
    "ModelState",
    "Node",
    "NodeEntity",
    "PodInstance",
    "PodInstanceState",
    "Policy",
    "PoolState",
    "ProviderState",
    "QueueEntity",
    "Recommendation",
    "Report",
    "ResourceDefinition",
    "ResourceInstance",
    "ResourceState",
    "SchedulerDomainEntity",
    "SchedulerDomainType",
    "ServiceEntity",
    "Session",
    "SessionPart",
    "SessionPartState",
    "SessionState",
    "StateBus",
    "StateFragment",
    "StateTransition",
    "SyncPolicy",
    "SyncStatus",
    "SystemState",
    "TenantScopeEntity",
    "TimedResource",
    "TimedResourceState",
    "Timeslot",
    "WorkloadType",
    "__version__",
}
"""A change here is a change of the public surface: it needs a decision and a migration note."""


def test_the_public_names_are_exactly_these():
    assert set(steersman.__all__) == PUBLIC
    assert sorted(set(steersman.__all__)) == sorted(steersman.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_public_name_can_be_had_and_is_documented(name: str):
    value = getattr(steersman, name)
    assert value is getattr(steersman, name)
    assert name in dir(steersman)
    if inspect.isclass(value):
        assert value.__doc__
        assert value.__name__ == name


def test_type_checkers_see_the_same_names_from_the_same_homes():
    """The imports under TYPE_CHECKING are for tools only, so nothing but this holds them true."""
    tree = ast.parse(Path(inspect.getfile(steersman)).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if node.module != "typing"
    }
    assert set(seen) == PUBLIC - {"__version__"}
    for name, module in seen.items():
        assert module is not None
        assert getattr(importlib.import_module(module), name) is getattr(steersman, name)


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="'steersman' has no attribute 'StateBuss'"):
        steersman.StateBuss  # noqa: B018


def test_importing_steersman_loads_nothing_of_it():
    """In a fresh interpreter: no third-party module and no room of ours is loaded by the import alone."""
    code = (
        "import sys; before = set(sys.modules); import steersman;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names);"
        "rooms = [name for name in sys.modules if name.startswith('steersman.')];"
        "print(sorted(new), rooms, 'msgspec' in sys.modules, 'importlib.metadata' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[0] == "['steersman'] [] False False"


def test_the_version_is_the_distributions():
    assert steersman.__version__[0].isdigit()
