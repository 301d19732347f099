"""What a reflector holds, and what it tells of it: each object once, and each incarnation that is gone."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.kubernetes.held import Picture
from steersman.drivers.kubernetes.reflector import Reflector
from steersman.drivers.kubernetes.shapes import Meta, ObjectKey


def meta(name: str, uid: str = "1") -> Meta:
    return Meta(name=name, uid=uid)


def test_a_reflector_runs_as_a_task() -> None:
    assert Reflector.run.__doc__


def test_nothing_is_told_before_the_first_list_and_then_everything() -> None:
    picture = Picture(10)
    picture.put(meta("a"), 1)
    assert not picture.drain()
    picture.replace([(meta("a"), 1, ""), (meta("b"), 2, "")])
    first = picture.drain()
    assert first.whole
    assert [held.value for held in first.changed] == [1, 2]
    assert not picture.drain()


def test_an_object_is_told_once_as_it_is_and_not_where_it_is_as_before() -> None:
    picture = Picture(10)
    picture.replace([(meta("a"), 1, "")])
    picture.drain()
    for value in (2, 3, 4):
        picture.put(meta("a"), value)
    assert [held.value for held in picture.drain().changed] == [4]
    picture.put(meta("a"), 4)
    assert not picture.drain()


def test_a_name_taken_anew_is_a_death_and_a_birth() -> None:
    picture = Picture(10)
    picture.replace([(meta("a", "1"), 1, "")])
    picture.drain()
    picture.put(meta("a", "2"), 1)
    picture.remove(meta("a", "1"))  # told late: it is not about the new one
    told = picture.drain()
    assert ([held.uid for held in told.gone], [held.uid for held in told.changed]) == (["1"], ["2"])


def test_what_came_and_went_between_two_looks_is_not_told() -> None:
    picture = Picture(10)
    picture.replace([])
    picture.drain()
    picture.put(meta("a"), 1)
    picture.remove(meta("a"))
    assert not picture.drain()


def test_a_new_list_tells_what_is_missing_in_it() -> None:
    picture = Picture(10)
    picture.replace([(meta("a"), 1, ""), (meta("b"), 1, "")])
    picture.drain()
    picture.replace([(meta("b"), 1, "")])
    told = picture.drain()
    assert not told.whole
    assert [held.key for held in told.gone] == [("", "a")]


def test_what_cant_be_read_keeps_what_was_known_of_it() -> None:
    picture = Picture(10)
    picture.replace([(meta("a"), 1, ""), (meta("b"), None, "odd")])
    picture.put(meta("a"), None, "odd")
    assert set(picture.unreadable) == {("", "a"), ("", "b")}
    assert picture.objects[("", "a")].value == 1
    picture.put(meta("a", "2"), None, "odd")
    assert picture.objects == {}, "another incarnation is not what was known"
    picture.remove(meta("b"))
    picture.put(meta("a", "2"), 1)
    assert picture.unreadable == {}


def test_more_than_fit_are_counted() -> None:
    picture = Picture(2)
    picture.replace([(meta(name), 1, "") for name in "ab"], over=1)
    assert (len(picture.objects), picture.left_out) == (2, 1)
    picture.put(meta("d"), 1)
    assert (len(picture.objects), picture.left_out) == (2, 2)
    picture.replace([(meta(name), 1, "") for name in "xy"])
    assert (set(picture.objects), picture.left_out) == ({("", "x"), ("", "y")}, 0)


def test_more_deaths_than_are_kept_make_the_next_look_a_whole_one() -> None:
    picture = Picture(1)
    picture.replace([(meta("a"), 1, "")])
    picture.drain()
    picture.replace([])
    picture.put(meta("b"), 1)
    assert [held.key for held in picture.drain().gone] == [("", "a")]
    big = Picture(2)
    big.replace([(meta("a"), 1, ""), (meta("b"), 1, "")])
    big.drain()
    big.objects_max = 1
    big.replace([])
    told = big.drain()
    assert (told.whole, told.changed, told.gone) == (True, [], [])


NAMES = st.sampled_from("abcd")
UIDS = st.sampled_from("12")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, UIDS, st.one_of(st.none(), st.integers(0, 3))),
        st.tuples(st.just("remove"), NAMES, UIDS, st.none()),
        st.tuples(st.just("replace"), NAMES, UIDS, st.integers(0, 3)),
        st.tuples(st.just("drain"), NAMES, UIDS, st.none()),
    ),
    max_size=40,
)


@given(STEPS, st.integers(1, 4))
def test_who_follows_the_changes_has_the_picture(steps: list[tuple[str, str, str, Any]], room: int) -> None:
    picture = Picture(room)
    picture.replace([])
    follower: dict[tuple[ObjectKey, str], Any] = {}

    def drain() -> None:
        told = picture.drain()
        if told.whole:
            follower.clear()
        for held in told.gone:
            del follower[(held.key, held.uid)]  # told once, and only of what was told before
        follower.update({(held.key, held.uid): held.value for held in told.changed})

    for what, name, uid, value in steps:
        if what == "put":
            picture.put(meta(name, uid), value)
        elif what == "remove":
            picture.remove(meta(name, uid))
        elif what == "replace":
            picture.replace([(meta(name, uid), value, "")])
        else:
            drain()
        assert len(picture.objects) <= room
    drain()
    assert follower == {(held.key, held.uid): held.value for held in picture.objects.values()}
