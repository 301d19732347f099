"""A secret shows itself to nobody by accident."""

from __future__ import annotations

import copy
import pickle

import msgspec
import pytest

from steersman.kernel.secret import Secret


class Options(msgspec.Struct, frozen=True):
    token: Secret


def test_nothing_that_prints_shows_it() -> None:
    secret = Secret("hunter2")
    for shown in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        repr(Options(secret)),
    ):
        assert "hunter2" not in shown
    assert secret.reveal() == "hunter2"


def test_it_is_not_written_into_files() -> None:
    for write in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="secret"):
            write(Secret("hunter2"))
    with pytest.raises(TypeError):
        msgspec.json.encode(Options(Secret("hunter2")))


def test_equal_by_value_and_empty_is_false() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert not Secret("")


def test_a_number_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="quotes"):
        Secret.from_text(5)
