"""The table of names: what each source calls what, kept up to date as fragments pass (decision 0042).

On the way of every fragment, so what repeats itself costs a look into one dict. Only where a source says
something new of a name are the names worked out again that share any evidence with it, all of them together
and from nothing (`joining.join`): so the answer does not depend on what came first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from msgspec import structs

from steersman.kernel.errors import SteersmanError
from steersman.kernel.logging import get_logger
from steersman.kinds.drift import IDENTITY
from steersman.kinds.entity import EntityKey, EntityType
from steersman.kinds.fields import REFERENCES
from steersman.kinds.fragment import SCOPE_LABEL, StateFragment
from steersman.kinds.settings import OWN_SOURCE, IdentitySettings
from steersman.observe.identity.book import Book, Claim
from steersman.observe.identity.evidence import (
    FIELDS_READ,
    JOINED,
    LABELS_READ,
    LIFE_FIELDS,
    LIVED_ONCE,
    RULES,
    Evidence,
    evidence_of,
    is_anew,
)
from steersman.observe.identity.joining import TOKEN_NAMES_MAX, Groups, Named, Voice, join
from steersman.state.bus import StateBus

NAMES_MAX = 250_000
"""Names that are compared: twice a fleet of 112,500. Further ones stand for themselves."""
REGION_MAX = 2_048
"""Names that are worked out together: joining them takes some 50 ms at most. What hangs together more than
that shares evidence that identifies nothing."""
TICK = timedelta(microseconds=1)
_EVER = datetime.min.replace(tzinfo=UTC)

_log = get_logger("observe.identity")
_GPU, _NODE = EntityType.GPU, EntityType.NODE
_TYPED = {EntityType.TENANT_SCOPE: "scope_type", EntityType.SCHEDULER_DOMAIN: "domain_type"}
"""Types whose ids begin with what the thing is in its system, and the field that says it."""
_Place = tuple[EntityType, str]


class Resolver:
    """Tells a bus which names are one entity. Belongs to the bus's thread.

    `is_managed`: whether a resource bears the name. It stays the entity's, because what was done stands under
    it; so it must be known already when names are read back from a checkpoint.
    """

    def __init__(
        self,
        bus: StateBus,
        settings: IdentitySettings | None = None,
        is_managed: Callable[[EntityKey], bool] = lambda _: False,
    ) -> None:
        self._bus = bus
        self._is_managed = is_managed
        self._settings = settings if settings is not None else IdentitySettings()
        self._rules = RULES if self._settings.rules else ()
        self._on = bool(self._rules or self._settings.aliases)
        self._scopes = self._settings.scopes
        self._targets = {
            EntityKey(EntityType(kind), "", name): target
            for (kind, name), target in self._settings.pairs().items()
        }
        self._books: dict[_Place, Book] = {}
        self._names = 0
        self._typed: dict[tuple[str, str, str], set[str]] = {}
        self._touched: dict[_Place, set[EntityKey]] = {}
        self._told: set[tuple[EntityKey, str]] = set()
        self._nodes: set[tuple[str, str]] = set()
        self._services: set[tuple[str, str]] = set()
        """Names of each that were mentioned, with their scopes."""
        self._mixed: set[str] = set()
        """Scopes in which some source does not name GPUs by UUID."""
        self._turned_mixed = False
        self.unjoined = 0
        """Names that were not compared, because there are too many."""
        if self._on:
            self._learn()

    # ---- on the way in

    def admit(self, fragments: list[StateFragment]) -> list[StateFragment | None]:
        """The fragments as they may land, in their order; None for one of an earlier life of its entity. What
        they say of names is told to the bus before they land."""
        if not self._on:
            return cast("list[StateFragment | None]", fragments)
        passed: list[StateFragment | None] | None = None
        mixed, nodes, services = self._mixed, self._nodes, self._services
        for place, fragment in enumerate(fragments):
            entity_type = fragment.entity_type
            if entity_type is _GPU:  # nearly all of a fleet's fragments: no enum is hashed, no key is made
                fields, scope = fragment.fields, fragment.labels.get(SCOPE_LABEL, "")
                node, service = fields.get("node"), fields.get("assigned_service_id")
                if (node is not None and (scope, node) not in nodes) or (
                    service is not None and (scope, service) not in services
                ):
                    self._note_mentions(fragment)
                name = fragment.entity_id
                plain = name[:4] == "GPU-" and "/" not in name
                if plain and not (mixed and self._scopes.get(scope, scope) in mixed):
                    continue
            elif entity_type in _MENTIONS:
                self._note_mentions(fragment)
                if entity_type not in FIELDS_READ:
                    continue
            elif entity_type not in FIELDS_READ or fragment.source == OWN_SOURCE:
                continue  # what the plane says of its own sources is named by it alone
            landed = self._admit(fragment)
            if landed is not fragment:
                if passed is None:
                    passed = list(fragments)
                passed[place] = landed
        if self._turned_mixed:
            self._turned_mixed = False
            for fragment in fragments:  # those before it in this batch were let by, and have not landed yet
                if fragment.entity_type is _GPU and self._group(fragment.key.scope) in self._mixed:
                    self._relearn(fragment)
        if self._touched:
            self._settle()
        return passed if passed is not None else cast("list[StateFragment | None]", fragments)

    def _note_mentions(self, fragment: StateFragment) -> None:
        """What a fragment calls other things: their names are joined like those that are spoken of."""
        fields, scope = fragment.fields, fragment.labels.get(SCOPE_LABEL, "")
        for field_name, refers in _MENTIONS[fragment.entity_type]:
            value = fields.get(field_name)
            if value is None:
                continue
            known = self._nodes if refers is _NODE else self._services
            for name in (value,) if isinstance(value, str) else value:
                if (scope, name) not in known and self._names < NAMES_MAX:
                    known.add((scope, name))
                    self._learn_mention(EntityKey(refers, scope, name))

    def _learn_mention(self, key: EntityKey) -> None:
        book = self._book(key)
        evidence = structs.replace(evidence_of(key.entity_type, key.entity_id, {}), proper=False)
        self._names += key not in book.claims
        book.claims.setdefault(key, {})[_MENTION] = Claim("", _EVER, {}, evidence)
        self._add_tokens(book, key, evidence)
        self._touch(key)

    def _admit(self, fragment: StateFragment) -> StateFragment | None:
        if fragment.entity_type in _TYPED:
            fragment = self._with_type(fragment)
        key = fragment.key
        book = self._book(key)
        claim = book.claims.get(key, _NONE).get(fragment.source)
        if claim is not None and fragment.observed_at < claim.at and self._is_late(fragment, claim):
            return None
        said = _news(fragment, claim)
        if said is None:
            return fragment
        ended = self._bus.links.ended(key)
        if ended and any((name, said[name]) in ended for name in LIVED_ONCE if name in said):
            return None
        if claim is not None and fragment.observed_at < claim.at:
            return fragment
        told = [one.said for source, one in book.claims.get(key, _NONE).items() if source != fragment.source]
        lives = [name for name in _lives(key) if name in said]
        changed = [name for name in lives if claim is not None and name in claim.said]
        if changed and claim is not None and ended:  # another source may have told of this very change before
            changed = [
                n for n in changed if (n, claim.said[n]) not in ended or is_anew(n, said[n], ended, told)
            ]
        reborn = changed or [name for name in lives if ended and is_anew(name, said[name], ended, told)]
        if reborn:
            self._begin_life(fragment, reborn, claim)
        self._learn_claim(book, key, fragment, claim, said)
        return fragment

    def _is_late(self, fragment: StateFragment, claim: Claim) -> bool:
        """Whether an older fragment of a source is of an earlier life, of which is known from now on."""
        key = fragment.key
        late = False
        for name in _lives(key):
            value = fragment.fields.get(name)
            if value is not None and name in claim.said and claim.said[name] != value:
                self._bus.links.end(key, name, value)
                self._bus.links.renew(key, claim.at - TICK)
                late = True
        return late

    def _begin_life(self, fragment: StateFragment, fields: list[str], claim: Claim | None) -> None:
        """A new thing of an old name: what was said of the old one goes, and can't come back."""
        key = fragment.key
        for name in fields:
            if claim is not None and name in claim.said:
                self._bus.links.end(key, name, claim.said[name])
                self._bus.links.note_life(key, name, str(claim.said[name]), str(fragment.fields[name]))
        self._bus.links.renew(key, fragment.observed_at - TICK)
        if claim is not None:
            claim.said = {n: v for n, v in claim.said.items() if n not in _lives(key)}

    def _with_type(self, fragment: StateFragment) -> StateFragment:
        """A tenant or scheduler under an id that says what it is: a namespace and an account of one name are
        two tenants, the Slurm and the Kubernetes of one site two schedulers."""
        place = (fragment.source, fragment.labels.get(SCOPE_LABEL, ""), fragment.entity_id)
        kind = fragment.fields.get(_TYPED[fragment.entity_type])
        if kind is None:
            kinds = self._typed.get(place, set())
            kind = next(iter(kinds)) if len(kinds) == 1 else None
        if kind in (None, "", "unknown") or fragment.entity_id.startswith(f"{kind}/"):
            return fragment
        if len(self._typed) < NAMES_MAX:
            self._typed.setdefault(place, set()).add(kind)
        return structs.replace(fragment, entity_id=_typed_id(kind, fragment.entity_id))

    # ---- what is gone, and what is asked

    def entity(self, fragment: StateFragment) -> EntityKey:
        """The entity that a fragment of this very source speaks of."""
        if not self._on:
            return fragment.key
        if fragment.entity_type in _TYPED:
            fragment = self._with_type(fragment)
        return self._bus.links.entity(fragment.key)

    def typed(self, source: str, key: EntityKey) -> EntityKey:
        """The key as it is kept, for whoever tells that something is gone."""
        if key.entity_type not in _TYPED:
            return key
        kinds = self._typed.get((source, key.scope, key.entity_id), set())
        return key._replace(entity_id=_typed_id(next(iter(kinds)), key.entity_id)) if len(kinds) == 1 else key

    def forget(self, key: EntityKey, observed_at: datetime) -> None:
        """What had that name is gone: its names lead nowhere, and its life does not come back."""
        if not self._on:
            return
        book = self._book(key)
        claims = book.claims.get(key)
        if claims is None:
            return
        for source in [s for s, claim in claims.items() if s != _MENTION and claim.at <= observed_at]:
            claim = claims.pop(source)
            for name in _lives(key):
                if name in claim.said:
                    self._bus.links.end(key, name, claim.said[name])
            self._drop_tokens(book, key, claim.evidence)
        if not claims:
            del book.claims[key]
            self._names -= 1
        self._touch(key)
        self._settle()

    # ---- learning

    def _learn(self) -> None:
        """Read names out of what the bus brought back from a checkpoint."""
        for cell in self._bus.cells():
            for layer in cell.layers:
                fragment = layer.fragment
                if fragment.entity_type in _MENTIONS:
                    self._note_mentions(fragment)
                named = fragment.entity_type in FIELDS_READ and fragment.source != OWN_SOURCE
                if named and not is_plain(fragment):
                    self._relearn(fragment)
        self._settle()

    def _relearn(self, fragment: StateFragment) -> None:
        book = self._book(fragment.key)
        claim = book.claims.get(fragment.key, _NONE).get(fragment.source)
        said = _news(fragment, claim)
        if said is not None:
            self._learn_claim(book, fragment.key, fragment, claim, said)

    def _learn_claim(
        self,
        book: Book,
        key: EntityKey,
        fragment: StateFragment,
        claim: Claim | None,
        said: dict[str, Any],
    ) -> None:
        if claim is None:
            if self._names >= NAMES_MAX:
                self.unjoined += 1
                return
            known: dict[str, Any] = said
        else:
            known = {**claim.said, **said}
        for name in fragment.clear:
            known.pop(name, None)
        boot_told = key.entity_type is _NODE and "boot_id" in said
        if boot_told and claim is not None and "boot_id" in claim.said:
            known["boot_at"] = fragment.observed_at
        if "gpu_index" in said and fragment.observed_at < self._boot_of(key, known)[1]:
            del known["gpu_index"]  # of the boot before
        evidence = self._evidence(key, known)
        if claim is None:
            if key not in book.claims:
                self._names += 1
            new = Claim(fragment.source_type, fragment.observed_at, known, evidence)
            book.claims.setdefault(key, {})[fragment.source] = new
            if key.entity_type is _GPU and not is_plain(key) and self._group(key.scope) not in self._mixed:
                self._turned_mixed = True
                self._mixed.add(self._group(key.scope))
                self._learn_gpus(key)
        else:
            before = claim.evidence
            claim.said, claim.at, claim.evidence = known, fragment.observed_at, evidence
            if before == evidence and not boot_told:
                return
            self._drop_tokens(book, key, before)
        self._add_tokens(book, key, evidence)
        self._touch(key)
        if boot_told:
            self._reread_gpus(set(self._names_of(key)))

    def _evidence(self, key: EntityKey, said: Mapping[str, Any]) -> Evidence:
        if key.entity_type is not _GPU:
            return evidence_of(key.entity_type, key.entity_id, said)
        boot, _ = self._boot_of(key, said)
        return evidence_of(_GPU, key.entity_id, said, lambda name: self._node_of(key.scope, name), boot)

    def _node_of(self, scope: str, name: str) -> str:
        return self._bus.links.entity(EntityKey(_NODE, scope, name)).entity_id

    def _boot_of(self, gpu: EntityKey, said: Mapping[str, Any]) -> tuple[str, datetime]:
        """The boot that a GPU's node is in, as far as any of the node's names tells, and since when that is
        known to be another one than before."""
        node = EntityKey(_NODE, gpu.scope, str(said.get("node", "")))
        book = self._books.get((_NODE, self._group(gpu.scope)))
        if book is None:
            return "", _EVER
        claims = [claim for name in self._names_of(node) for claim in book.claims.get(name, _NONE).values()]
        told = [
            (c.said.get("boot_at", _EVER), c.at, str(c.said["boot_id"]))
            for c in claims
            if "boot_id" in c.said
        ]
        if not told:
            return "", _EVER
        since, _, boot = max(told)
        return boot, since

    def _names_of(self, key: EntityKey) -> list[EntityKey]:
        """All names of the entity that a name leads to."""
        head = self._bus.links.entity(key)
        return [head, *(name for name, _ in self._bus.links.ties(head))]

    def _learn_gpus(self, key: EntityKey) -> None:
        """Some source does not name GPUs by UUID: from now on all of that scope are compared."""
        for cell in self._bus.cells():
            if cell.entity_type is _GPU and self._group(cell.scope) == self._group(key.scope):
                for layer in cell.layers:
                    self._relearn(layer.fragment)

    def _reread_gpus(self, nodes: set[EntityKey]) -> None:
        """Their nodes mean something else now, so their places do."""
        for group in {self._group(node.scope) for node in nodes}:
            book = self._books.get((_GPU, group))
            if book is None or group not in self._mixed:
                continue
            for key, claims in book.claims.items():
                for claim in claims.values():
                    if EntityKey(_NODE, key.scope, str(claim.said.get("node", ""))) not in nodes:
                        continue
                    if claim.at < self._boot_of(key, claim.said)[1]:
                        claim.said.pop("gpu_index", None)  # till it is told again, in this boot
                    evidence = self._evidence(key, claim.said)
                    if evidence != claim.evidence:
                        before, claim.evidence = claim.evidence, evidence
                        self._drop_tokens(book, key, before)  # behind: what a claim still says is kept
                        self._add_tokens(book, key, evidence)
                        self._touch(key)

    # ---- settling

    def _settle(self) -> None:
        """Work out anew what shares evidence with the names that something new was said of."""
        renamed: set[EntityKey] = set()
        while self._touched:
            # Nodes first: where a GPU is depends on them.
            place = min(self._touched, key=lambda one: one[0] is not _NODE)
            seeds = self._touched.pop(place)
            for region in self._regions(place, seeds):
                if len(region) == 1 and self._is_alone(place, *region):
                    continue
                moved = self._apply(place, region)
                if place[0] is _NODE:
                    renamed |= moved
            if renamed and not any(one[0] is _NODE for one in self._touched):
                self._reread_gpus(renamed)
                renamed = set()

    def _is_alone(self, place: _Place, key: EntityKey) -> bool:
        """Whether nothing has to be worked out: one source's name that shares nothing with any other."""
        claims = self._books[place].claims.get(key, _NONE)
        return len(claims) == 1 and not self._bus.links.has(key) and not self._bus.links.is_doubted(key)

    def _regions(self, place: _Place, seeds: set[EntityKey]) -> Iterable[set[EntityKey]]:
        """The names that hang together with the seeds by evidence, or did."""
        book = self._books[place]
        done: set[EntityKey] = set()
        for seed in sorted(seeds):
            if seed in done:
                continue
            region: set[EntityKey] = {seed}
            todo: list[EntityKey] = [seed]
            while todo and len(region) <= REGION_MAX:
                for near in self._near(book, todo.pop()):
                    if near not in region:
                        region.add(near)
                        todo.append(near)
            done |= region
            if len(region) > REGION_MAX:
                self.unjoined += len(region)
                self._note(place[0], "too many names share evidence to be told apart")
                continue
            yield region

    def _near(self, book: Book, key: EntityKey) -> set[EntityKey]:
        links = self._bus.links
        head = links.entity(key)
        found = {head, *(name for name, _ in links.ties(head))}
        for claim in book.claims.get(key, _NONE).values():
            for token in claim.evidence.tokens:
                names = book.having.get(token, ())
                if len(names) <= TOKEN_NAMES_MAX:
                    found.update(names)
        target = self._target(key)
        if target is not None:
            found.add(target)
        return found

    def _apply(self, place: _Place, region: set[EntityKey]) -> set[EntityKey]:
        """Join a region and tell the bus what changed; the names that mean another entity now."""
        book, links = self._books[place], self._bus.links
        targets = {target for key in region if (target := self._target(key)) is not None}
        names = [
            Named(key, self._voices(book, key), self._target(key), self._is_managed(key))
            for key in sorted(region)
            if key in book.claims or key in targets
        ]
        groups = join(names, self._rules)
        told = {name.key for name in names if name.told}
        moved: set[EntityKey] = set()
        try:
            for key in sorted(region):
                head = groups.entity.get(key, key)
                if (head == key or head not in told) and links.part(key):
                    moved.add(key)
            for key, head in sorted(groups.entity.items()):
                if (
                    head != key
                    and head in told
                    and links.tie(key, head, groups.why[key].rule, groups.why[key].evidence)
                ):
                    moved.add(key)
            for key in sorted(region):
                links.doubt(key, groups.doubts.get(key, ()))
        except SteersmanError as error:  # no room: the names stand as they do, and are tried again when told
            self.unjoined += len(region)
            _log.warning("names_not_joined", code=error.code, detail=error.detail)
        self._tell(groups)
        return moved

    def _tell(self, groups: Groups) -> None:
        for key, doubts in groups.doubts.items():
            for doubt in doubts:
                if (key, str(doubt)) not in self._told:
                    if len(self._told) >= NAMES_MAX:
                        self._told.clear()
                    self._told.add((key, str(doubt)))
                    self._note(key.entity_type, f"{key.entity_id} is ambiguous: {doubt}")

    def _note(self, entity_type: EntityType, detail: str) -> None:
        at = self._bus.moment().wall
        self._bus.drift_log.note(entity_type, "identity", detail, at, kind=IDENTITY)

    def _voices(self, book: Book, key: EntityKey) -> tuple[Voice, ...]:
        return tuple(
            Voice(
                source,
                claim.source_type,
                self._bus.priority_of(source),
                _telling(book, claim.evidence),
                source == _MENTION,
            )
            for source, claim in sorted(book.claims.get(key, _NONE).items())
        )

    def _target(self, key: EntityKey) -> EntityKey | None:
        if not self._targets:
            return None
        target = self._targets.get(EntityKey(key.entity_type, "", key.entity_id))
        return key._replace(entity_id=target) if target is not None else None

    # ---- inside

    def _group(self, scope: str) -> str:
        return self._scopes.get(scope, scope)

    def _book(self, key: EntityKey) -> Book:
        place = (key.entity_type, self._group(key.scope))
        book = self._books.get(place)
        if book is None:
            book = self._books[place] = Book()
        return book

    def _touch(self, key: EntityKey) -> None:
        if key.entity_type in JOINED:
            self._touched.setdefault((key.entity_type, self._group(key.scope)), set()).add(key)

    def _add_tokens(self, book: Book, key: EntityKey, evidence: Evidence) -> None:
        for token in evidence.tokens:
            names = book.having.setdefault(token, set())
            names.add(key)
            if len(names) == TOKEN_NAMES_MAX + 1:
                for near in names:  # from now on it identifies nobody
                    self._touch(near)

    def _drop_tokens(self, book: Book, key: EntityKey, evidence: Evidence) -> None:
        kept = {token for claim in book.claims.get(key, _NONE).values() for token in claim.evidence.tokens}
        for token in evidence.tokens:
            names = book.having.get(token)
            if names is None or token in kept:
                continue
            if len(names) <= TOKEN_NAMES_MAX + 1:
                for near in names:
                    self._touch(near)
            names.discard(key)
            if not names:
                del book.having[token]


def _typed_id(kind: str, entity_id: str) -> str:
    """`main` and `partition:main`, which is how a source that has several kinds may tell them apart."""
    return f"{kind}/{entity_id.removeprefix(f'{kind}:')}"


_NONE: dict[str, Claim] = {}
_MENTION = ""
"""The source of mentions: none of them speaks of the thing, so it does not matter which made it."""
_MENTIONS: dict[EntityType, tuple[tuple[str, EntityType], ...]] = {
    entity_type: found
    for entity_type, fields in REFERENCES.items()
    if (
        found := tuple(
            (name, refers) for name, refers in fields.items() if refers in (_NODE, EntityType.SERVICE)
        )
    )
}
"""Fields that call nodes and services something, by whatever name their source has for them."""


def _telling(book: Book, evidence: Evidence) -> Evidence:
    """The evidence without what too many names share."""
    tokens = tuple(token for token in evidence.tokens if len(book.having.get(token, ())) <= TOKEN_NAMES_MAX)
    return evidence if len(tokens) == len(evidence.tokens) else structs.replace(evidence, tokens=tokens)


def is_plain(of: StateFragment | EntityKey) -> bool:
    """Whether it is a GPU named by its UUID, which needs no comparing as long as all of its scope are."""
    return of.entity_type is _GPU and of.entity_id[:4] == "GPU-" and "/" not in of.entity_id


def _lives(key: EntityKey) -> tuple[str, ...]:
    return LIFE_FIELDS.get(key.entity_type, ())


def _news(fragment: StateFragment, claim: Claim | None) -> dict[str, Any] | None:
    """What a fragment says of its name that its source did not say before; None where that is nothing."""
    fields, labels, entity_type = fragment.fields, fragment.labels, fragment.entity_type
    known: Mapping[str, Any] = claim.said if claim is not None else {}
    news: dict[str, Any] | None = None if claim is not None else {}
    for name in FIELDS_READ[entity_type]:
        value = fields.get(name)
        if value is not None and known.get(name) != value:
            news = news if news is not None else {}
            news[name] = value
    for name in LABELS_READ.get(entity_type, ()):
        value = labels.get(name)
        if value is not None and known.get(f"labels.{name}") != value:
            news = news if news is not None else {}
            news[f"labels.{name}"] = value
    if news is None and fragment.clear and claim is not None and any(n in claim.said for n in fragment.clear):
        news = {}
    return news
