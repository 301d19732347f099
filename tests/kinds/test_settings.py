"""The schema of steersman.yaml: SURFACE's example loads, defaults are as promised, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from steersman.kernel.config import ConfigInvalid, convert, load
from steersman.kinds.settings import RESERVED_VARIABLES, Settings, state_folder

EXAMPLE = """
server: {host: 127.0.0.1, port: 7440}
store: sqlite:///steersman.db
sources:
  - {name: this-host, driver: host}
  - {name: metrics, driver: prometheus, url: "http://127.0.0.1:9090", scope: us-east-1, interval: 15s,
     mappings: [node-exporter, dcgm]}
  - {name: hpc, driver: slurm, url: "http://127.0.0.1:6820", scope: hpc-1, interval: 30s,
     token: "${env:SLURM_JWT}"}
policies: [policies/]
lifecycles: [lifecycles/]
catalogue: [seeds/]
gateway: {config: gateway.yaml}
auth: {tokens: true}
"""


def read(tmp_path: Path, text: str, **env: str) -> Settings:
    path = tmp_path / "steersman.yaml"
    path.write_text(text)
    return load(Settings, path, env, reserved=RESERVED_VARIABLES)


def test_the_documented_example_loads(tmp_path: Path) -> None:
    settings = read(tmp_path, EXAMPLE)
    assert [source.name for source in settings.sources] == ["this-host", "metrics", "hpc"]
    assert settings.sources[1].interval == 15
    assert settings.auth.tokens
    assert settings.gateway.config == tmp_path / "gateway.yaml"
    assert settings.policies == [tmp_path / "policies"]
    assert "mappings" in (settings.sources[1].options.located.mapping or {})


def test_with_nothing_configured_this_host_is_observed_on_loopback() -> None:
    settings = load(Settings, None, {"STEERSMAN_SERVER": "http://elsewhere:7440", "STEERSMAN_TOKEN": "x"},
                    reserved=RESERVED_VARIABLES)  # fmt: skip
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 7440)
    assert [(s.name, s.driver) for s in settings.sources] == [("this-host", "host")]
    assert settings.store_url(Path("/state"), None) == "sqlite:////state/steersman.db"


def test_an_empty_list_of_sources_means_none(tmp_path: Path) -> None:
    assert read(tmp_path, "sources: []").sources == []


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ("sqlite:///data/x.db", "sqlite:///{folder}/data/x.db"),
        ("sqlite:////var/x.db", "sqlite:////var/x.db"),
        ("memory:", "memory:"),
        ("memory", "memory:"),
        ("postgresql://h/db", "postgresql://h/db"),
    ],
)
def test_a_relative_store_lies_beside_the_file(tmp_path: Path, store: str, expected: str) -> None:
    settings = read(tmp_path, f"store: {store!r}")
    assert settings.store_url(Path("/state"), tmp_path / "steersman.yaml") == expected.format(folder=tmp_path)


def test_the_state_folder_follows_steersman_home_then_xdg(tmp_path: Path) -> None:
    assert state_folder({"STEERSMAN_HOME": str(tmp_path)}) == tmp_path
    assert state_folder({"XDG_STATE_HOME": "/x"}) == Path("/x/steersman")
    assert state_folder({"XDG_STATE_HOME": "relative"}) == Path.home() / ".local/state/steersman"
    assert state_folder({}) == Path.home() / ".local/state/steersman"


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="given twice: a"):
        read(tmp_path, "sources: [{name: a, driver: host}, {name: a, driver: host}]")


def test_no_source_has_the_planes_own_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="the plane's own"):
        read(tmp_path, "sources: [{name: steersman, driver: host}]")


def test_no_key_is_set_by_a_variable_of_the_command_line() -> None:
    """Goal: STEERSMAN_SERVER and its like can never come to mean a key as well."""
    for name in RESERVED_VARIABLES:
        settings = load(Settings, None, {name: "anything"}, reserved=RESERVED_VARIABLES)
        assert settings == load(Settings, None, {})
        with pytest.raises(ConfigInvalid, match="is no setting of this program"):
            load(Settings, None, {name: "anything"})


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "x" * 200])
def test_a_source_name_is_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigInvalid, match="a name of letters, digits"):
        read(tmp_path, f"sources: [{{name: {name!r}, driver: host}}]")


def test_the_rest_of_a_source_is_its_drivers(tmp_path: Path) -> None:
    from msgspec import Struct

    class Options(Struct):
        url: str

    source = read(tmp_path, "sources:\n  - name: a\n    driver: x\n    intervall: 5s\n    url: u\n").sources[
        0
    ]
    with pytest.raises(
        ConfigInvalid, match=r"yaml:4: sources\[0\].intervall: unknown key.*did you mean interval\?"
    ):
        convert(source.options, Options)


def test_a_token_never_shows_in_the_settings(tmp_path: Path) -> None:
    settings = read(tmp_path, EXAMPLE, SLURM_JWT="hunter2")
    assert "hunter2" not in repr(settings)
