"""The dashboard's files: served as built, or a page that says that it was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Any]


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "dashboard"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>built</title>")
    (folder / "assets" / "index-abc123.js").write_text("export {}")
    (folder / "assets" / "index-abc123.css").write_text("body{}")
    (folder / "assets" / "odd.exe").write_text("no")
    (folder / "build.json").write_text("{}")
    (tmp_path / "secret.txt").write_text("out of reach")
    return folder


async def test_without_a_build_the_page_says_so_and_how_to_get_it(world: Any) -> None:
    answer = await world.http.get("/")
    assert answer.status_code == 200
    assert "was not built" in answer.text
    assert "make dashboard" in answer.text
    assert "<script" not in answer.text
    assert "style=" not in answer.text
    assert (await world.http.get("/ui/anything")).status_code == 404


async def test_the_page_is_never_cached_and_its_hashed_files_always(built: Path, new_world: Make) -> None:
    async with new_world(dashboard=built) as world:
        page = await world.http.get("/")
        assert page.text == "<!doctype html><title>built</title>"
        assert page.headers["cache-control"] == "no-cache"
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe-inline" not in policy
        script = await world.http.get("/assets/index-abc123.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert "immutable" in script.headers["cache-control"]
        assert (await world.http.get("/api/v1/status")).json()["dashboard_built"] is True


@pytest.mark.parametrize(
    "path",
    [
        "/assets/..%2Fbuild.json",
        "/assets/..%2F..%2Fsecret.txt",
        "/assets/%2E%2E%2F%2E%2E%2Fsecret.txt",
        "/assets/odd.exe",
        "/assets/nope.js",
        "/build.json",
        "/assets/",
    ],
)
async def test_only_files_of_the_build_are_served(path: str, built: Path, new_world: Make) -> None:
    async with new_world(dashboard=built) as world:
        answer = await world.http.get(path)
        assert answer.status_code == 404
        assert "out of reach" not in answer.text
