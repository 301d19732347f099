"""Entities over HTTP: lists and filters, pages that stay true, odd ids, tags, explanations."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from steersman.api.pages import SCAN_MAX, CursorInvalid, read_cursor, read_field_filter, write_cursor
from steersman.api.problems import InvalidParameter
from steersman.kinds.entity import EntityKey, EntityType, NodeEntity
from steersman.kinds.fragment import StateFragment

Fragment = Callable[..., dict[str, Any]]

ODD_IDS = [
    "a/b/c",
    "source/this-host",
    "explain",
    "x/explain",
    "a b",
    "a?b#c",
    "a%2Fb",
    "ünïcode/☃",
    "..",
    "../../etc/passwd",
    "a\\b",
    "http://127.0.0.1:8000/metrics",
    "semi;colon,comma",
    "quote'\"<script>",
    "x" * 512,
    "trailing/",
    "//double",
]


def put(world: Any, *fragments: dict[str, Any]) -> None:
    for one in fragments:
        world.bus.put(msgspec.convert(one, StateFragment))


async def ids(world: Any, query: str) -> list[str]:
    answer = await world.http.get(f"/api/v1/entities?{query}")
    assert answer.status_code == 200, answer.text
    return [item["entity_id"] for item in answer.json()["items"]]


@pytest.mark.parametrize("entity_id", ODD_IDS)
async def test_any_id_can_be_asked_for(entity_id: str, world: Any, fragment: Fragment) -> None:
    """Goal: an id with slashes or anything else reaches its own entity, whole and in each part."""
    put(world, fragment(entity_id), fragment("other"))
    path = f"/api/v1/entities/node/{quote(entity_id, safe='').replace('.', '%2E')}"
    for part in ("", "/explain", "/history", "/at?time=2026-01-01T03:10:00Z"):
        answer = await world.http.get(path + part)
        assert answer.status_code == 200, (part, answer.text)
    assert (await world.http.get(path)).json()["entity_id"] == entity_id
    assert await ids(world, f"id={quote(entity_id, safe='')}") == [entity_id]


@pytest.mark.parametrize("path", ["node/%ff%fe", "node/a%00b", "%00/x"])
async def test_a_path_that_is_no_text_is_refused(path: str, world: Any) -> None:
    answer = await world.http.get(f"/api/v1/entities/{path}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize("word", ["node", "nodes", "Node", "NODES", "no"])
async def test_kinds_are_read_in_any_spelling(word: str, world: Any, fragment: Fragment) -> None:
    put(world, fragment("n1"), fragment("g1", "gpu", gpu_utilization=0.1))
    assert await ids(world, f"type={word}") == ["n1"]
    assert (await world.http.get(f"/api/v1/entities/{word}/n1")).status_code == 200


async def test_an_unknown_kind_names_the_nearest(world: Any) -> None:
    for path in ("/api/v1/entities?type=nodde", "/api/v1/entities/nodde/x"):
        answer = await world.http.get(path)
        assert (answer.status_code, answer.json()["code"], answer.json()["nearest"]) == (
            404,
            "unknown_kind",
            "node",
        )


async def test_an_entity_that_is_not_there_names_the_nearest(world: Any, fragment: Fragment) -> None:
    put(world, fragment("gpu-node-17"))
    answer = await world.http.get("/api/v1/entities/node/gpu-node-71")
    assert answer.status_code == 404
    assert answer.json()["code"] == "entity_not_found"
    assert answer.json()["nearest"] == "gpu-node-17"


async def test_an_id_in_two_scopes_needs_its_scope(world: Any, fragment: Fragment) -> None:
    put(world, fragment("n1"), {**fragment("n1"), "labels": {"cluster": "c2"}})
    answer = await world.http.get("/api/v1/entities/node/n1")
    assert answer.json()["code"] == "ambiguous_scope"
    assert answer.json()["scopes"] == ["c1", "c2"]
    answer = await world.http.get("/api/v1/entities/node/n1?scope=c2")
    assert answer.json()["scope"] == "c2"
    assert await ids(world, "scope=c1") == ["n1"]


async def test_lists_filter_by_everything(world: Any, fragment: Fragment) -> None:
    put(
        world,
        {
            **fragment("a", cpu_utilization=0.2, made_up="x1"),
            "labels": {"cluster": "c1", "team": "ml", "rack": "r1"},
        },
        {**fragment("b", cpu_utilization=0.9), "labels": {"cluster": "c1", "team": "ml", "rack": "r2"}},
        {**fragment("c", memory_utilization=0.5), "labels": {"cluster": "c1", "team": "web"}},
        fragment("s", "service", error_rate=0.5, health_state="critical"),
    )
    assert await ids(world, "label=team%3Dml") == ["a", "b"]
    assert await ids(world, "label=team%3Dml&label=rack%3Dr2") == ["b"]
    assert await ids(world, "field=cpu_utilization%3E0.5") == ["b"]
    assert await ids(world, "field=cpu_utilization<=0.9&field=cpu_utilization!=0.2") == ["b"]
    assert await ids(world, "field=made_up%3Dx1") == ["a"]
    assert await ids(world, "field=cpu_utilization%3E=zebra") == []
    assert await ids(world, "q=ML%20r1") == ["a"]
    health = world.bus.get(EntityType.SERVICE, "s").health_state.value
    assert health != "healthy"
    assert await ids(world, f"type=node,service&health={health}") == ["s"]
    assert await ids(world, "label=team%3Dml&label=team%3Dweb") == []
    assert await ids(world, "type=node&type=service&id=s") == ["s"]
    assert await ids(world, "type=gpu") == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("tpye=node", "unknown_parameter"),
        ("limit=0", "invalid_parameter"),
        ("limit=1000000", "invalid_parameter"),
        ("limit=ten", "invalid_parameter"),
        ("health=sick", "invalid_parameter"),
        ("label=noequals", "invalid_parameter"),
        ("field=nothing", "invalid_parameter"),
        ("field=%3D5", "invalid_parameter"),
        ("cursor=%F0%9F%92%A9", "cursor_invalid"),
        ("cursor=bm90anNvbg", "cursor_invalid"),
        ("cursor=!!!", "cursor_invalid"),
        ("q=" + "x" * 300, "invalid_parameter"),
        ("&".join(f"label=a%3D{n}" for n in range(20)), "invalid_parameter"),
        ("&".join(f"type=node{n}" for n in range(200)), "invalid_parameter"),
        ("q=" + "x" * 9000, "invalid_parameter"),
    ],
)
async def test_wrong_parameters_are_refused(query: str, code: str, world: Any) -> None:
    answer = await world.http.get(f"/api/v1/entities?{query}")
    assert answer.json()["code"] == code, answer.text
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_unknown_parameter_names_the_nearest(world: Any) -> None:
    for path, near in (
        ("entities?lable=a", "label"),
        ("entities/node/x?scop=a", "scope"),
        ("watch?kind=a", "kinds"),
    ):
        assert (await world.http.get(f"/api/v1/{path}")).json()["nearest"] == near


async def test_pages_stay_true_while_entities_come_and_go(world: Any, fragment: Fragment) -> None:
    """Goal: an entity that is there all the while comes exactly once, whatever happens between two pages."""
    steady = [f"n{number:03d}" for number in range(0, 100, 2)]
    put(world, *(fragment(name) for name in steady), fragment("g", "gpu", gpu_utilization=0.1))
    seen: list[str] = []
    cursor, page = "", 0
    while True:
        answer = (await world.http.get(f"/api/v1/entities?type=node&limit=7&cursor={cursor}")).json()
        seen += [item["entity_id"] for item in answer["items"]]
        cursor = answer["cursor"]
        if cursor is None:
            break
        page += 1
        put(world, fragment(f"n{2 * page + 1:03d}"), fragment(f"n{99 - page:03d}x"))
        world.bus.forget(EntityType.NODE, f"n{2 * page + 1:03d}", "c1")
    assert [name for name in seen if name in steady] == steady
    assert len(seen) == len(set(seen))


async def test_pages_go_through_all_kinds_and_scopes_in_order(world: Any, fragment: Fragment) -> None:
    put(
        world,
        *(
            {**fragment(f"e{n}", kind), "fields": {"anything": n}, "labels": {"cluster": scope}}
            for kind in ("service", "node", "config_snapshot")
            for scope in ("", "a", "b")
            for n in range(3)
        ),
    )
    whole = (await world.http.get("/api/v1/entities")).json()["items"]
    keys = [(item["entity_type"], item["scope"], item["entity_id"]) for item in whole]
    assert len(keys) == 27
    paged: list[Any] = []
    cursor = ""
    while cursor is not None:
        answer = (await world.http.get(f"/api/v1/entities?limit=1&cursor={cursor}")).json()
        paged += [(item["entity_type"], item["scope"], item["entity_id"]) for item in answer["items"]]
        cursor = answer["cursor"]
    assert paged == keys
    some = (await world.http.get("/api/v1/entities?type=node,config_snapshot&limit=4")).json()
    rest = (
        await world.http.get(f"/api/v1/entities?type=node,config_snapshot&cursor={some['cursor']}")
    ).json()
    assert len(some["items"]) + len(rest["items"]) == 18


async def test_a_search_that_finds_little_goes_on_page_by_page(world: Any, fragment: Fragment) -> None:
    """Goal: one request looks at a bounded number of entities; following the cursors finds all."""
    many = [msgspec.convert(fragment(f"n{n:05d}"), StateFragment) for n in range(SCAN_MAX + 50)]
    world.bus.put_many(many)
    first = (await world.http.get("/api/v1/entities?q=n20049")).json()
    assert first["items"] == []
    assert first["cursor"] is not None
    second = (await world.http.get(f"/api/v1/entities?q=n20049&cursor={first['cursor']}")).json()
    assert [item["entity_id"] for item in second["items"]] == ["n20049"]
    assert second["cursor"] is None


async def test_a_page_says_at_which_revision_it_was_made(world: Any, fragment: Fragment) -> None:
    put(world, fragment("a"))
    before = (await world.http.get("/api/v1/entities")).json()["revision"]
    put(world, fragment("a", cpu_utilization=0.7))
    assert (await world.http.get("/api/v1/entities")).json()["revision"] > before


async def test_a_tag_saves_the_answer_until_the_entity_changes(world: Any, fragment: Fragment) -> None:
    put(world, fragment("a"))
    first = await world.http.get("/api/v1/entities/node/a")
    tag = first.headers["etag"]
    assert tag == f'W/"{first.json()["revision"]}"'
    for given in (tag, tag.removeprefix("W/"), f'"zzz", {tag}', "*"):
        again = await world.http.get("/api/v1/entities/node/a", headers={"if-none-match": given})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    put(world, fragment("a", cpu_utilization=0.6))
    changed = await world.http.get("/api/v1/entities/node/a", headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


async def test_secrets_in_labels_and_fields_are_masked_at_the_edge(world: Any, fragment: Fragment) -> None:
    """Goal: what somebody pushed by mistake is not shown to everybody; the rest of the entity is."""
    secrets = ["hunter2", "tok-12345678", "s3cr3t-pass", "inner-secret", "label-secret", "bearer-abcdef123"]
    put(
        world,
        {
            **fragment(
                "leaky",
                "service",
                password="hunter2",
                api_key="tok-12345678",
                url="https://admin:s3cr3t-pass@db.example/x",
                settings={"deep": [{"client_secret": "inner-secret", "size": 3}]},
                last_error="sent Authorization: Bearer bearer-abcdef123 and failed",
                error_rate=0.0,
            ),
            "labels": {"cluster": "c1", "auth-token": "label-secret", "team": "ml"},
        },
    )
    texts = [
        (await world.http.get(f"/api/v1/entities/service/leaky{part}")).text
        for part in ("", "/explain", "/history", f"/at?time={datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.999999Z")
    ]
    texts.append((await world.http.get("/api/v1/entities")).text)
    for text in texts:
        assert [secret for secret in secrets if secret in text] == []
    assert "***" in texts[0]
    assert '"team":"ml"' in texts[0]
    assert '"size":3' in texts[0]
    entity = world.bus.get(EntityType.SERVICE, "leaky")
    assert entity.extra["password"] == "hunter2", "the bus keeps what it was told"


async def test_what_an_entity_looked_like_is_told_also_of_what_is_gone(
    world: Any, fragment: Fragment
) -> None:
    put(world, fragment("n1", scheduler_state="IDLE"))
    world.bus.forget(EntityType.NODE, "n1")
    path = "/api/v1/entities/node/n1"
    assert (await world.http.get(path)).status_code == 404
    states = (await world.http.get(f"{path}/history")).json()["states"]
    assert [change["fields"].get("scheduler_state") for change in states] == ["IDLE", None]
    before = (await world.http.get(f"{path}/at?time=2000-01-01T03:10:00%2B02:00")).json()
    assert before["at"] == "2000-01-01T01:10:00Z"
    assert before["fields"] == {}
    assert before["known_since"] == states[0]["at"]
    then = (await world.http.get(f"{path}/at?time={states[0]['at']}")).json()
    assert then["fields"]["scheduler_state"] == "IDLE"
    assert then["since"]["scheduler_state"] == states[0]["at"]
    to_come = (await world.http.get(f"{path}/at?time=9999-01-01T00:00:00Z")).json()
    assert to_come["at"] < "9999", "nobody knows; what is told is now"
    for query in ("", "?time=yesterday", "?time="):
        answer = await world.http.get(f"{path}/at{query}")
        assert answer.status_code == 400, answer.text
    assert (
        await world.http.get("/api/v1/entities/node/never/at?time=2026-01-01T00:00:00Z")
    ).status_code == 404


@pytest.mark.parametrize(
    "key", [EntityKey(EntityType.NODE, "", "x"), EntityKey(EntityType.GPU, "ü/ß", 'a"\\\n')]
)
def test_cursors_round_trip(key: EntityKey) -> None:
    cursor = write_cursor(key)
    assert read_cursor(cursor) == key
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("text", ["", "a", "W10", "WyJub2RlIl0", "WyJ4IiwiIiwiYSJd", "\x00", "=" * 10])
def test_other_cursors_are_refused(text: str) -> None:
    with pytest.raises(CursorInvalid):
        read_cursor(text)


@pytest.mark.parametrize("text", ["", "=", "a", "a=", "=a", "__class__=x", "a!b", "!"])
def test_field_filters_that_make_no_sense(text: str) -> None:
    with pytest.raises(InvalidParameter):
        read_field_filter(text)


def test_a_field_filter_reaches_fields_alone() -> None:
    entity = NodeEntity(
        entity_id="x", entity_type=EntityType.NODE, observed_at=datetime.now(UTC), extra={"mode": True}
    )
    assert read_field_filter("entity_id=x").matches(entity)
    assert read_field_filter("mode=true").matches(entity)
    for text in ("TYPE!=x", "key!=x", "cpu_count!=5", "mode>5", "entity_id>5"):
        assert not read_field_filter(text).matches(entity)
