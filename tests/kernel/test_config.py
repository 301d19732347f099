"""Strict configuration: every error at once, with place, expectation and the nearest valid key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct, field

from steersman.kernel.config import ConfigInvalid, ConfigUnreadable, Rest, convert, load, variable_of
from steersman.kernel.quantity import Between, ByteSize, Duration
from steersman.kernel.secret import Secret


class Server(Struct, frozen=True):
    host: str = "localhost"
    port: Annotated[int, Meta(ge=0, le=65535)] = 80
    token: Secret | None = None


class Item(Struct, frozen=True):
    name: str
    every: Annotated[Duration, Between(Duration(1), Duration(60))] = Duration(5)
    more: Rest = field(default_factory=Rest)


class Schema(Struct, frozen=True):
    server: Server = field(default_factory=Server)
    items: list[Item] = field(default_factory=list[Item])
    level: Literal["low", "high"] = "low"
    ratio: float = 0.5
    size: ByteSize = ByteSize(10)
    on: bool = False
    tags: list[str] = field(default_factory=list[str])
    folder: Path | None = None
    limits: dict[str, int] = field(default_factory=dict[str, int])


class Options(Struct, frozen=True):
    url: str
    token: Secret | None = None
    names: list[str] = field(default_factory=list[str])


def read(tmp_path: Path, text: str, **env: str) -> Schema:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load(Schema, path, env, prefix="APP", reserved={"APP_SERVER", "APP_TOKEN"})


def problems(tmp_path: Path, text: str, **env: str) -> list[dict[str, Any]]:
    with pytest.raises(ConfigInvalid) as caught:
        read(tmp_path, text, **env)
    found: list[dict[str, Any]] = caught.value.facts["problems"]
    return found


def test_a_full_file(tmp_path: Path) -> None:
    text = """
server: {host: h, port: 81, token: abc}
items:
  - {name: a, every: 10s, url: u}
level: high
ratio: 1
size: 4KiB
on: true
tags: [x, y]
folder: sub/dir
limits: {a: 1}
"""
    settings = read(tmp_path, text)
    assert settings.server == Server("h", 81, Secret("abc"))
    assert settings.items[0].every == 10
    assert settings.ratio == 1.0
    assert isinstance(settings.ratio, float)
    assert settings.size == 4096
    assert settings.folder == tmp_path / "sub/dir"
    assert settings.limits == {"a": 1}


def test_no_file_and_an_empty_file_give_the_defaults(tmp_path: Path) -> None:
    assert load(Schema, None, {}) == read(tmp_path, "") == read(tmp_path, "server:\n") == Schema()


def test_all_errors_come_at_once_in_order_of_place(tmp_path: Path) -> None:
    text = """server: {prot: 80, port: 70000}
levle: low
level: hihg
items:
  - {every: 5x}
  - 3
on: yes
ratio: [1]
tags: x
"""
    found = problems(tmp_path, text)
    assert [(p["line"], p["key"], p.get("nearest")) for p in found] == [
        (1, "server.prot", "port"),
        (1, "server.port", None),
        (2, "levle", "level"),
        (3, "level", "high"),
        (5, "items[0].name", None),
        (5, "items[0].every", None),
        (6, "items[1]", None),
        (7, "on", None),
        (8, "ratio", None),
        (9, "tags", None),
    ]
    assert found[1]["expected"] == "a whole number from 0 to 65535"
    assert found[5]["expected"] == "a duration such as 15s, 5m or 1h30m, from 1s to 1m"
    assert all(p["file"].endswith("c.yaml") for p in found)


def test_the_message_names_file_line_key_expectation_and_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        read(tmp_path, "server:\n  prot: 80\n")
    said = "server.prot: unknown key; expected one of host, port, token; did you mean port?"
    assert caught.value.detail == f"{tmp_path}/c.yaml:2: {said}"
    assert caught.value.problem()["code"] == "config_invalid"


def test_broken_yaml_is_one_problem_with_its_line(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "a: 1\na: 2\n")
    assert found["line"] == 2
    assert "given twice" in found["detail"]


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigUnreadable, match="No such file or directory; name another with --config"):
        load(Schema, tmp_path / "none.yaml", {})
    with pytest.raises(ConfigUnreadable, match="Is a directory"):
        load(Schema, tmp_path, {})


def test_text_that_lost_its_quotes(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "server: {host: 10}")
    assert "put it in quotes" in found["expected"]


def test_variables_override_the_file(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        "server: {port: 81}\nlevel: low\n",
        APP_SERVER_PORT="82",
        APP_SERVER_TOKEN="12345",
        APP_LEVEL="high",
        APP_ON="true",
        APP_SIZE="1MiB",
        APP_TAGS="a, b",
        APP_ITEMS="[{name: x}]",
        APP_LIMITS="{a: 5}",
        APP_RATIO="",
        OTHER="ignored",
        APP_SERVER="http://client",
    )
    assert settings.server.port == 82
    assert settings.server.token == Secret("12345")
    assert (settings.level, settings.on, settings.size, settings.tags) == ("high", True, 1 << 20, ["a", "b"])
    assert settings.items[0].name == "x"
    assert settings.limits == {"a": 5}
    assert settings.ratio == 0.5


def test_wrong_variables_are_named(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "",
        APP_SERVER_PROT="1",
        APP_SERVER_PORT="many",
        APP_ITEMS="[{name: x, every: 1h}]",
        APP_TOKNE="x",
        APP_LIMITS="{a",
    )
    by_name = {p["file"]: p for p in found}
    assert by_name["APP_SERVER_PROT"]["nearest"] == "APP_SERVER_PORT"
    assert by_name["APP_TOKNE"]["nearest"] == "APP_TOKEN"
    assert by_name["APP_SERVER_PORT"]["key"] == "server.port"
    assert by_name["APP_ITEMS"]["key"] == "items[0].every"
    assert by_name["APP_LIMITS"]["key"] == "limits"
    assert "line" not in by_name["APP_SERVER_PORT"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("APP_SERVICE_HOST", "10.0.0.1"),
        ("APP_SERVICE_PORT_HTTP", "80"),
        ("APP_PORT", "tcp://10.0.0.1:80"),
        ("APP_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("APP_SERVER_PORT", "tcp://10.0.0.1:80"),
    ],
)
def test_what_kubernetes_sets_for_services_is_nobodys_configuration(
    name: str, text: str, tmp_path: Path
) -> None:
    assert read(tmp_path, "", **{name: text}) == Schema()


def test_references_are_resolved_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    text = """
server: {token: "${file:token}", port: "${env:PORT}", host: "h-${env:PORT}-$${x}"}
"""
    assert read(tmp_path, text, PORT="7") == Schema(server=Server("h-7-${x}", 7, Secret("hunter2")))
    with pytest.raises(ConfigInvalid) as caught:
        read(
            tmp_path,
            "server: {port: '${env:P}', token: '${file:no}', host: '${oops}', x: '${env:NO}'}",
            P="hunter2",
        )
    assert "hunter2" not in str(caught.value.problem())
    details = [p["detail"] for p in caught.value.facts["problems"]]
    assert "a value can't stand here" in details
    assert any("no can't be read: No such file" in d for d in details)
    assert "this reference can't be read" in details


def test_a_missing_variable_is_named(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "server: {host: '${env:NOPE}'}")
    assert "variable NOPE is not set" in found["detail"]


def test_a_variable_that_is_not_utf_8_is_named_and_not_shown(tmp_path: Path) -> None:
    """Python hands such bytes on as half characters, which would fail wherever they are written first."""
    (problem,) = problems(tmp_path, "", APP_SERVER_HOST="\udcff")
    assert (problem["file"], problem["detail"]) == ("APP_SERVER_HOST", "not UTF-8 text")
    (problem,) = problems(tmp_path, "server: {host: '${env:NAME}'}", NAME="se\udcffcret")
    assert problem["detail"] == "the variable NAME is not UTF-8 text"


def test_a_huge_or_binary_secret_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(b"x" * 70_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    found = problems(tmp_path, "server: {host: '${file:huge}', token: '${file:binary}'}")
    assert "has more than 65536 bytes" in found[0]["detail"]
    assert "is not UTF-8" in found[1]["detail"]


def test_a_wrong_value_that_may_hold_a_password_is_masked(tmp_path: Path) -> None:
    found = problems(tmp_path, "level: postgres://a:hunter2@h/x\nserver: {token: [hunter2]}\n")
    assert "hunter2" not in str(found)


def test_rest_is_read_later_with_the_same_errors(tmp_path: Path) -> None:
    settings = read(tmp_path, "items:\n  - name: a\n    url: http://x\n    token: ${env:T}\n", T="hunter2")
    rest = settings.items[0].more
    assert "hunter2" not in repr(settings)
    options = convert(rest, Options)
    assert options == Options("http://x", Secret("hunter2"))
    assert "hunter2" not in repr(options)
    wrong = (
        read(tmp_path, "items:\n  - name: a\n    ulr: http://x\n    evry: 5s\n    names: 3\n").items[0].more
    )
    with pytest.raises(ConfigInvalid) as caught:
        convert(wrong, Options)
    found = {p["key"]: p for p in caught.value.facts["problems"]}
    assert found["items[0].ulr"]["nearest"] == "url"
    assert found["items[0].ulr"]["line"] == 3
    assert found["items[0].evry"]["nearest"] == "every"
    assert found["items[0].url"]["detail"] == "this key is missing"
    assert found["items[0].names"]["line"] == 5


def test_lists_and_mappings_keep_to_their_bounds() -> None:
    class Bounded(Struct, frozen=True):
        names: Annotated[list[str], Meta(min_length=1, max_length=2)]
        sizes: Annotated[dict[str, int], Meta(max_length=1)] = field(default_factory=dict[str, int])

    env = {"APP_NAMES": "[a, b, c]", "APP_SIZES": "{a: 1, b: 2}"}
    with pytest.raises(ConfigInvalid) as caught:
        load(Bounded, None, env, prefix="APP")
    assert {p["detail"]: p["expected"] for p in caught.value.facts["problems"]} == {
        "3 entries": "at most 2 entries",
        "2 keys": "at most 1 keys",
    }
    with pytest.raises(ConfigInvalid, match="0 entries; expected at least 1 entries"):
        load(Bounded, None, {"APP_NAMES": "[]"}, prefix="APP")


def test_a_file_full_of_mistakes_is_answered_soon(tmp_path: Path) -> None:
    found = problems(tmp_path, "\n".join(f"wrong_key_{n}: {n}" for n in range(50_000)))
    assert len(found) == 50


def test_what_post_init_refuses_is_placed() -> None:
    class Pair(Struct, frozen=True):
        low: int = 0
        high: int = 1

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is over high")

    with pytest.raises(ConfigInvalid, match="low is over high"):
        load(Pair, None, {"APP_LOW": "5"}, prefix="APP")


def test_variable_names() -> None:
    assert variable_of(("server", "port")) == "STEERSMAN_SERVER_PORT"


def refusal(call: Callable[[], object]) -> ConfigInvalid | None:
    try:
        call()
    except ConfigInvalid as error:
        return error
    return None


@given(st.text(max_size=120))
def test_any_file_is_read_or_refused(text: str) -> None:
    """Goal: whatever stands in a file, the answer is settings or ConfigInvalid with a place."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="surrogatepass", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        problem = refusal(lambda: load(Schema, Path(file.name), {}, prefix="APP"))
        assert problem is None or problem.facts["file"] == file.name
