"""What a command is about, as people type it: `KIND`, `KIND NAME`, `KIND/NAME`, and selectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from steersman.cli.exits import WrongUsage
from steersman.cli.spec import did_you_mean
from steersman.kinds.entity import EntityType, HealthState
from steersman.kinds.names import kind_of


class Target(NamedTuple):
    """One entity as it was typed. `scope` None: not given, the only one that matches is meant."""

    kind: EntityType
    name: str
    scope: str | None


def read_kind(word: str) -> EntityType:
    """The kind that `word` means, in any case, plural or short; else `WrongUsage` with the nearest."""
    kind = kind_of(word)
    if kind is not None:
        return kind
    known = [kind.value for kind in EntityType]
    raise WrongUsage(
        f"unknown kind {word!r}", hint=did_you_mean(word, known) or f"kinds are {', '.join(known)}"
    )


def read_target(word: str, name: str | None, scope: str | None) -> Target:
    """`KIND/NAME` or `KIND NAME`; a name may itself hold slashes (`service/source/this-host`)."""
    kind_word, slash, rest = word.partition("/")
    if name is None:
        if not slash or not rest:
            raise WrongUsage(f"{word!r} names no entity", hint="type KIND/NAME, e.g. node/gpu-07")
        return Target(read_kind(kind_word), rest, scope)
    if slash:
        raise WrongUsage(f"{word!r} holds a name already, and {name!r} is another one")
    return Target(read_kind(kind_word), name, scope)


def read_labels(words: Sequence[str]) -> dict[str, str]:
    """`-l a=1 -l b=2` and `-l a=1,b=2` alike."""
    labels: dict[str, str] = {}
    for part in ",".join(words).split(","):
        if not part:
            continue
        name, sign, value = part.partition("=")
        name, value = name.strip(), value.strip().removeprefix("=")  # kubectl's == means the same
        if not sign or not name or name.endswith("!"):
            raise WrongUsage(
                f"label {part!r} can't be read", hint="write -l name=value; only equality is known"
            )
        labels[name] = value
    return labels


def read_health(words: Sequence[str]) -> list[HealthState]:
    """`--health critical,degraded`, repeated or not."""
    known = [state.value for state in HealthState]
    states: list[HealthState] = []
    for word in ",".join(words).split(","):
        plain = word.strip().lower()
        if plain and plain not in known:
            raise WrongUsage(
                f"unknown health {word.strip()!r}",
                hint=did_you_mean(plain, known) or f"one of {', '.join(known)}",
            )
        if plain:
            states.append(HealthState(plain))
    return states
