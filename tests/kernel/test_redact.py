"""Secrets stay out of texts and structures, and what is no secret stays readable."""

from __future__ import annotations

import pytest

from steersman.kernel.redact import ERROR_TEXT_MAX_CHARS, error_text, is_secret_key, redact, redact_text


@pytest.mark.parametrize(
    "key",
    ["token", "Token", "STEERSMAN_TOKEN", "api_key", "apiKey", "X-Api-Key", "Authorization", "dbPassword",
     "client_secret", "set-cookie", "SLURM_JWT", "private_key", "aws_access_key", "credentials",
     "X-SLURM-USER-TOKEN"],
)  # fmt: skip
def test_secret_keys(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key",
    ["tokens_total", "keyboard", "key", "entity_key", "name", "url", "author", "cookies_eaten", "monkey"],
)
def test_ordinary_keys(key: str) -> None:
    assert not is_secret_key(key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://ada:hunter2@db:5432/x down", "postgresql://***@db:5432/x down"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("GET http://h/m?token=abc&x=1", "GET http://h/m?token=***&x=1"),
        ("password='a b c' refused", "password=*** refused"),
        ('{"api_key": "abc", "n": 1}', '{"api_key": ***, "n": 1}'),
        (
            "http://127.0.0.1:9100/metrics: connection refused",
            "http://127.0.0.1:9100/metrics: connection refused",
        ),
        ("max_tokens=4096 exceeded", "max_tokens=4096 exceeded"),
        ("X-Auth-Token: abc", "X-Auth-Token: ***"),
        ("STEERSMAN_TOKEN=abc up", "STEERSMAN_TOKEN=*** up"),
        ("dbPassword: abc", "dbPassword: ***"),
        ("mailto ada@example.com", "mailto ada@example.com"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    assert redact_text(text) == expected


def test_hostile_texts_are_looked_at_once() -> None:
    """Goal: megabytes of what almost matches take a moment; in square time they would take hours."""
    for text in ("a" * 1_000_000, "a-_" * 300_000, "token" * 200_000, "x://" * 200_000, "bearer " * 100_000):
        assert redact_text(text) is not None


def test_structures_are_masked_at_every_depth() -> None:
    value = {"a": [{"password": "x", "ok": 1}], "token": None, "headers": {"Authorization": "Basic abcdefgh"}}
    assert redact(value) == {
        "a": [{"password": "***", "ok": 1}],
        "token": None,
        "headers": {"Authorization": "***"},
    }


def test_a_structure_that_holds_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert "..." in str(redact(loop))


def test_an_error_of_any_origin_is_told_bounded_masked_and_in_whole_characters() -> None:
    assert error_text(ValueError("token=abcdef12")) == "ValueError: token=***"
    assert error_text(ValueError("\udcff")) == "ValueError: \\udcff"
    long = error_text(ValueError("a" * 5000 + "z"))
    assert len(long) < ERROR_TEXT_MAX_CHARS + 100
    assert long.startswith("ValueError: aaa")
    assert long.endswith("az")
