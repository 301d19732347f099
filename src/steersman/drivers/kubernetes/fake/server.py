"""The fake API server: real semantics on a loopback port, and faults.

What it does not have: server-side apply (415), protobuf (it answers JSON), tables, OpenAPI, admission but for
names and namespaces, schemas of objects.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from steersman.drivers.kubernetes.fake.asked import Asked, read_request
from steersman.drivers.kubernetes.fake.catalogue import CATALOGUE, Kind
from steersman.drivers.kubernetes.fake.controllers import Controller
from steersman.drivers.kubernetes.fake.discovery import describe
from steersman.drivers.kubernetes.fake.objects import Objects
from steersman.drivers.kubernetes.fake.reading import read_list, read_one
from steersman.drivers.kubernetes.fake.refusal import Refusal
from steersman.drivers.kubernetes.fake.storage import Backup, Storage
from steersman.drivers.kubernetes.fake.tree import Object, part
from steersman.drivers.kubernetes.fake.watching import Watches, WatchRequest
from steersman.drivers.kubernetes.fake.writing import scale_of, write
from steersman.drivers.kubernetes.shapes import ObjectKey
from steersman.drivers.web.fake import Request, Response, WebFake
from steersman.kernel.clock import Clock, SystemClock

JSON = "application/json"
WATCH_TIMEOUT_S = 1800.0
"""A watch without one gets at least this of a real server."""
CONTROLLER_ROUNDS_MAX = 20
"""Controllers that still write after so many rounds fight each other."""
BOOKMARK_S = 60.0
"""Between bookmarks, as a real server does it."""


class FakeApiServer:
    """An API server in a box.

    - `kinds`: what it serves (all of the catalogue); `install` and `uninstall` change that.
    - `controllers`: called after every write.
    - `tokens`: bearer tokens and the users behind them; without any, everybody may do everything. With `tls`
      that asks for certificates, a certificate's common name is a user too.
    - `git_version`: what it says it is. `watch_list`: whether it has streaming lists.

    Faults: those of `web.fail`, and the attributes below.
    """

    def __init__(
        self,
        *,
        kinds: Sequence[Kind] = CATALOGUE,
        controllers: Sequence[Controller] = (),
        tokens: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        git_version: str = "v1.35.0",
        watch_list: bool = True,
        bookmark_s: float = BOOKMARK_S,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.web = WebFake(self._answer, tls=tls)
        self.kinds = {kind.resource.plural: kind for kind in kinds}
        self.controllers = list(controllers)
        self.tokens = dict(tokens or {})
        self.denied: set[tuple[str, str]] = set()
        """Verb and plural (`("list", "pods")`) that nobody may."""
        self.git_version = git_version
        self.watch_list = watch_list
        self.storage = Storage()
        self.objects = Objects(self.storage, self.clock)
        self.watches = Watches(self.storage, self.clock, bookmark_s)
        self.lag = 0
        """How many versions a cached read (`resourceVersion=0`) is behind."""
        self.slow_s = 0.0
        """How long every answer takes longer."""
        self.throttled = 0
        """So many of the next requests are answered with 429, and 1 s to wait."""
        self.garbled: bytes | None = None
        """Answered instead of every body, with status 200."""
        self.gone_in_http = False
        """Whether lost history is told as the answer of a watch, and not in its stream."""
        self._all_kinds = {kind.resource.plural: kind for kind in CATALOGUE}
        for name in ("default", "kube-system"):
            self.create("namespaces", {"metadata": {"name": name}, "status": {"phase": "Active"}})

    async def start(self) -> FakeApiServer:
        """Listen; returns itself."""
        await self.web.start()
        return self

    async def stop(self) -> None:
        """Close everything. Repeating it does nothing."""
        self.watches.end_all()
        await self.web.stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.web.url

    # ---- from inside, as controllers do

    def create(self, plural: str, body: Object, namespace: str = "") -> Object:
        """Make an object, with its status. Raises `Refusal`."""
        kind = self._all_kinds[plural]
        made = self.objects.create(kind, _scope(kind, namespace, body), body, manager="fake")
        self.settle()
        return self.storage.get(plural, _key(made)) or made

    def change(self, plural: str, thing: Object, *, manager: str = "fake", **parts: Any) -> Object:
        """Write parts (`spec=...`, `metadata=...` is merged) of an object, as `manager`. Raises `Refusal`."""
        kind = self._all_kinds[plural]
        meta: Object = parts.pop("metadata", {})

        def new(old: Object) -> Object:
            return {**old, **parts, "metadata": {**old["metadata"], **meta}}

        made = self.objects.update(kind, _key(thing), new, manager=manager)
        self.settle()
        return made

    def set_status(self, plural: str, thing: Object, status: Object) -> Object:
        """Write an object's status. Raises `Refusal` (404)."""
        kind = self._all_kinds[plural]
        made = self.objects.update(
            kind, _key(thing), lambda old: {**old, "status": status}, subresource="status", manager="fake"
        )
        self.settle()
        return made

    def remove(self, plural: str, thing: Object) -> None:
        """Take an object away, whatever waits for it."""
        self.storage.delete(plural, _key(thing))
        self.settle()

    def all(self, plural: str) -> Iterator[Object]:
        """All objects of a kind."""
        return self.storage.all(plural)

    def settle(self) -> None:
        """Let the controllers do their work."""
        if self._settling:
            return  # one of them wrote
        self._settling = True
        try:
            for _ in range(CONTROLLER_ROUNDS_MAX):
                before = self.storage.version
                for controller in self.controllers:
                    controller(self)
                if before == self.storage.version:
                    return
        finally:
            self._settling = False

    _settling = False

    def uninstall(self, plural: str) -> None:
        """No longer have a kind: its objects go with it."""
        for thing in list(self.storage.all(plural)):
            self.storage.delete(plural, _key(thing))
        self.kinds.pop(plural, None)
        self.watches.end_all()

    def restore(self, backup: Backup) -> None:
        """Be as a backup of the storage was; the server is started anew for that, so every stream ends."""
        self.storage.restore(backup)
        self.watches.end_all()

    def install(self, plural: str) -> None:
        """Have a kind (again)."""
        self.kinds[plural] = self._all_kinds[plural]

    # ---- over HTTP

    async def _answer(self, request: Request) -> Response:
        if self.slow_s:
            await self.clock.sleep(self.slow_s)
        if self.garbled is not None:
            return Response(self.garbled, content_type=JSON)
        try:
            if self.throttled > 0:
                self.throttled -= 1
                raise Refusal("TooManyRequests", "too many requests, please try again later", retry_after_s=1)
            user = self._user(request)
            return self._respond(request, user)
        except Refusal as refused:
            after = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s is not None else {}
            return Response(msgspec.json.encode(refused.status()), refused.code, JSON, after)

    def _respond(self, request: Request, user: str) -> Response:
        path = request.path.partition("?")[0]
        if path in ("/healthz", "/livez", "/readyz"):
            return Response(b"ok")
        described = describe(path.rstrip("/"), self.kinds.values(), self.git_version)
        if described is not None:
            return _json(200, described)
        asked = read_request(request, self.kinds.values())
        if asked is None:
            return Response(b"404 page not found\n", 404)  # as the real one: no status object
        self._may(asked, user)
        if asked.method != "GET":
            status, body = write(self.objects, self.kinds, asked)
            self.settle()
            return _json(status, body)
        if asked.truth("watch"):
            return self._watch(asked)
        if not asked.name:
            return _json(200, read_list(self.storage, asked, self.lag))
        found = read_one(self.storage, asked, self.lag)
        return _json(200, scale_of(found) if asked.subresource == "scale" else found)

    def _watch(self, asked: Asked) -> Response:
        version = asked.version()
        initial = asked.query.get("sendInitialEvents", "")
        match = asked.query.get("resourceVersionMatch", "")
        if initial and not self.watch_list:
            raise Refusal(
                "Invalid",
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList "
                "feature gate is enabled",
            )
        if bool(initial) != bool(match) or (match and match != "NotOlderThan"):
            why = (
                "resourceVersionMatch: Forbidden: is forbidden for watch unless sendInitialEvents is provided"
            )
            raise Refusal("Invalid", why)
        if version and not initial and self.gone_in_http:
            self.storage.since(version)  # refuses what is too old
        if initial and version and version > self.storage.version:
            self.storage.snapshot(asked.kind.resource.plural, version)  # refuses it
        text = asked.query.get("timeoutSeconds", "")
        stream = self.watches.stream(
            WatchRequest(
                kind=asked.kind,
                chosen=asked.chosen(),
                version=version or None,
                initial=initial in ("1", "true"),
                bookmarks=asked.truth("allowWatchBookmarks"),
                timeout_s=float(text) if text.isdigit() else WATCH_TIMEOUT_S,
            )
        )
        return Response(stream=stream, content_type=JSON, cut=self.watches.cut)

    def _user(self, request: Request) -> str:
        """Who asks. Raises `Refusal` (401)."""
        if request.user:
            return request.user
        if not self.tokens:
            return "system:anonymous"
        word, _, token = request.headers.get("authorization", "").partition(" ")
        if word.lower() != "bearer" or token not in self.tokens:
            raise Refusal("Unauthorized", "Unauthorized")
        return self.tokens[token]

    def _may(self, asked: Asked, user: str) -> None:
        """Raises `Refusal` (403)."""
        plural = asked.kind.resource.plural
        named = f"{plural}/{asked.subresource}" if asked.subresource else plural
        if (asked.verb, named) in self.denied:
            scope = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
            raise Refusal(
                "Forbidden",
                f'{plural} is forbidden: User "{user}" cannot {asked.verb} resource "{named}" in API group '
                f'"{asked.kind.resource.group}" {scope}',
                details={"kind": plural, "group": asked.kind.resource.group},
            )


def _json(status: int, body: Object) -> Response:
    return Response(msgspec.json.encode(body), status, JSON)


def _key(thing: Object) -> ObjectKey:
    meta: Object = thing["metadata"]
    return (meta.get("namespace", ""), meta["name"])


def _scope(kind: Kind, namespace: str, body: Object) -> str:
    if not kind.resource.namespaced:
        return ""
    return namespace or part(body, "metadata").get("namespace") or "default"
