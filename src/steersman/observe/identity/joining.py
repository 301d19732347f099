"""Which of a set of names are one thing. Pure: the same names with the same evidence give the same answer, in
whatever order they came.

Rules are tried one after the other. Under a rule, a token joins the names that have it, if all of them can be
one thing. They can't where one source gives two proper names (it would not name one thing twice), or where
ids of the thing itself differ. Then the token joins nobody: guessing which of them is meant would be wrong
half of the time. A name that could be each of several others under such a token, and is joined with none of
them by another, is ambiguous.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from msgspec import Struct, field

from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.explanation import Ambiguity
from steersman.observe.identity.evidence import ADDRESS, MANUAL, NAME, RULES, SHORT, Evidence, Token

AUTHORITY = {"kubernetes": 0, "slurm": 1, "host": 2, "dcgm": 3}
"""Whose name an entity goes by, where several source types name it and configuration says nothing: those that
place work on things first."""
TOKEN_NAMES_MAX = 32
"""A token that more names share identifies nothing (the address of a bridge, the name of a template): as many
as an entity may have sources."""
_OTHERS = 9


class Voice(Struct, frozen=True):
    """What one source says of a name. `mention`: nobody spoke of the thing itself by that name, but of
    something that has to do with it."""

    source: str
    source_type: str
    priority: int
    evidence: Evidence
    mention: bool = False


class Named(Struct, frozen=True):
    """A name and what all sources say of it. `target`: what configuration says it is a name of. `managed`: a
    resource bears it."""

    key: EntityKey
    voices: tuple[Voice, ...]
    target: EntityKey | None = None
    managed: bool = False

    @property
    def told(self) -> bool:
        """Whether some source speaks of the thing itself by that name, or configuration does."""
        return not self.voices or any(not voice.mention for voice in self.voices)

    @property
    def proper(self) -> bool:
        """Whether it is a name that an inventory gives."""
        return any(voice.evidence.proper for voice in self.voices)

    def tokens(self, rule: str) -> set[Token]:
        """All tokens of one rule."""
        return {token for voice in self.voices for token in voice.evidence.tokens if token[0] == rule}

    def ids(self) -> dict[str, set[str]]:
        """Ids of the thing itself, by kind."""
        found: dict[str, set[str]] = {}
        for voice in self.voices:
            for kind, value in voice.evidence.ids:
                found.setdefault(kind, set()).add(value)
        return found


class Join(Struct, frozen=True):
    """Why a name was joined with others: the rule, and the token or what configuration says."""

    rule: str
    evidence: str


class Groups(Struct):
    """The answer: the entity of each name, why, and what is in doubt, by the entity's key."""

    entity: dict[EntityKey, EntityKey] = field(default_factory=dict[EntityKey, EntityKey])
    why: dict[EntityKey, Join] = field(default_factory=dict[EntityKey, Join])
    doubts: dict[EntityKey, tuple[Ambiguity, ...]] = field(
        default_factory=dict[EntityKey, tuple[Ambiguity, ...]]
    )


def join(names: Iterable[Named], rules: Iterable[str] = RULES) -> Groups:
    """Join what is one thing by configuration or by these rules."""
    return _Joining({name.key: name for name in sorted(names, key=_key)}).run(rules)


class _Joining:
    def __init__(self, names: dict[EntityKey, Named]) -> None:
        self._names = names
        self._targets = {name.target for name in names.values() if name.target is not None}
        self._groups: dict[EntityKey, tuple[EntityKey, ...]] = {key: (key,) for key in names}
        self._why: dict[EntityKey, Join] = {}
        self._doubtful: list[tuple[EntityKey, str, str, tuple[EntityKey, ...]]] = []

    def run(self, rules: Iterable[str]) -> Groups:
        for key, name in self._names.items():
            if name.target is not None and name.target in self._names and name.target != key:
                target = name.target
                self._unite([key, target], Join(MANUAL, f"configured as {target.entity_id}"))
        for rule in rules:
            self._apply(rule)
        groups = Groups()
        for members in {id(group): group for group in self._groups.values()}.values():
            head = min(members, key=self._rank)
            for key in members:
                groups.entity[key] = head
                if key != head:
                    groups.why[key] = self._why[key]
        groups.doubts = self._doubts(groups.entity)
        return groups

    def _apply(self, rule: str) -> None:
        """Join by the tokens of one rule. What stands in each other's way is judged by the groups as they
        were when the rule began, so that the order of tokens does not matter."""
        having: dict[Token, list[EntityKey]] = {}
        for key, name in self._names.items():
            for token in name.tokens(rule):
                having.setdefault(token, []).append(key)
        edges: list[tuple[Token, list[tuple[EntityKey, ...]]]] = []
        for token, keys in sorted(having.items()):
            groups = self._distinct(keys)
            if len(groups) > 1 and len(keys) <= TOKEN_NAMES_MAX:
                if all(self._fit(a, b, rule) for a, b in combinations(groups, 2)):
                    edges.append((token, groups))
                else:
                    self._note_doubts(rule, {token}, [(token, groups)])
        for chain in _chains(edges):
            groups = self._distinct(group[0] for _, joined in chain for group in joined)
            if all(self._fit(a, b, rule) for a, b in combinations(groups, 2)):
                for (_, text), joined in chain:
                    self._unite([group[0] for group in joined], Join(rule, text))
            else:
                self._note_doubts(rule, {token for token, _ in chain}, chain)

    def _distinct(self, keys: Iterable[EntityKey]) -> list[tuple[EntityKey, ...]]:
        found = {id(self._groups[key]): self._groups[key] for key in keys}
        return sorted(found.values())

    def _fit(self, a: tuple[EntityKey, ...], b: tuple[EntityKey, ...], rule: str) -> bool:
        """Whether two groups can be one thing."""
        return all(self._may_be_one(self._names[x], self._names[y], rule) for x in a for y in b)

    def _may_be_one(self, a: Named, b: Named, rule: str) -> bool:
        theirs = b.ids()
        if any(kind in theirs and values.isdisjoint(theirs[kind]) for kind, values in a.ids().items()):
            return False
        if a.key.entity_id == b.key.entity_id and rule == NAME:
            return True  # one name in two scopes that are one by configuration
        for one in a.voices:
            for other in b.voices:
                mine, yours = one.evidence, other.evidence
                if rule == SHORT and mine.full and yours.full and _dotted(mine, yours):
                    return False
                if not (mine.proper and yours.proper):
                    continue
                # Agents on many machines are many sources of one type; each may have the address of a bridge.
                if one.source == other.source or (rule == ADDRESS and one.source_type == other.source_type):
                    return False
        return True

    def _note_doubts(
        self, rule: str, tokens: set[Token], edges: list[tuple[Token, list[tuple[EntityKey, ...]]]]
    ) -> None:
        shared: dict[tuple[EntityKey, ...], set[tuple[EntityKey, ...]]] = {}
        for _, groups in edges:
            for a, b in combinations(groups, 2):
                if self._fit(a, b, rule):
                    shared.setdefault(a, set()).add(b)
                    shared.setdefault(b, set()).add(a)
        said = ", ".join(sorted(text for _, text in tokens)[:3])
        for group, others in shared.items():
            if len(others) > 1:
                candidates = tuple(sorted(other[0] for other in others))
                self._doubtful.append((group[0], rule, said, candidates))

    def _unite(self, keys: list[EntityKey], why: Join) -> None:
        groups = self._distinct(keys)
        if len(groups) < 2:
            return
        members = tuple(sorted(key for group in groups for key in group))
        for group in groups:
            for key in group:
                self._why.setdefault(key, why)
        for key in members:
            self._groups[key] = members

    def _doubts(self, entity: Mapping[EntityKey, EntityKey]) -> dict[EntityKey, tuple[Ambiguity, ...]]:
        found: dict[EntityKey, list[Ambiguity]] = {}
        for key, rule, said, candidates in self._doubtful:
            heads = {entity[one] for one in candidates}
            if entity[key] in heads or len(heads) < 2:
                continue  # something else has told which
            ids = tuple(sorted(head.entity_id for head in heads))
            found.setdefault(entity[key], []).append(Ambiguity(rule, said, ids))
        for key, name in self._names.items():
            for kind, values in name.ids().items():
                if len(values) > 1:
                    said = f"sources give it different values of {kind}: {', '.join(sorted(values))}"
                    found.setdefault(entity[key], []).append(Ambiguity(NAME, said))
        return {key: tuple(dict.fromkeys(sorted(some, key=str))) for key, some in found.items()}

    def _rank(self, key: EntityKey) -> tuple[bool, bool, bool, bool, bool, int, int, str, str]:
        """Whose name an entity goes by: the least of these."""
        name = self._names[key]
        bare = not any(voice.evidence.full for voice in name.voices) and _is_qualified(key.entity_type)
        weak_slice = key.entity_type is EntityType.GPU and "/" not in key.entity_id and _has_slice(name)
        return (
            key not in self._targets,
            not name.managed,
            not name.told,
            not name.proper,
            bare or weak_slice,
            -max((voice.priority for voice in name.voices), default=0),
            min((AUTHORITY.get(voice.source_type, _OTHERS) for voice in name.voices), default=_OTHERS),
            key.entity_id,
            key.scope,
        )


def _is_qualified(entity_type: EntityType) -> bool:
    return entity_type not in (EntityType.NODE, EntityType.GPU, EntityType.JOB)


def _has_slice(name: Named) -> bool:
    return any(text.startswith("MIG instance") for voice in name.voices for _, text in voice.evidence.tokens)


def _dotted(a: Evidence, b: Evidence) -> bool:
    """Whether both are names in full, and not the same one."""
    return a.full != b.full and any(c in a.full for c in "./") and any(c in b.full for c in "./")


def _chains(
    edges: list[tuple[Token, list[tuple[EntityKey, ...]]]],
) -> list[list[tuple[Token, list[tuple[EntityKey, ...]]]]]:
    """Edges that hang together, over groups that they share."""
    chains: list[tuple[set[EntityKey], list[tuple[Token, list[tuple[EntityKey, ...]]]]]] = []
    for edge in edges:
        heads = {group[0] for group in edge[1]}
        chain = [edge]
        apart: list[tuple[set[EntityKey], list[tuple[Token, list[tuple[EntityKey, ...]]]]]] = []
        for others, known in chains:
            if others & heads:
                heads |= others
                chain = known + chain
            else:
                apart.append((others, known))
        chains = [*apart, (heads, chain)]
    return [sorted(chain, key=_token) for _, chain in chains]


def _key(name: Named) -> EntityKey:
    return name.key


def _token(edge: tuple[Token, list[tuple[EntityKey, ...]]]) -> Token:
    return edge[0]
