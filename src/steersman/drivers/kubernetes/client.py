"""The Kubernetes API over HTTP: reads, lists by page, watches, and changes. Nothing is retried here, but one
request that was refused for an old token while a newer one is on disk.

A refusal of the API (any status of 400 and over) is a `KubernetesRefused` with the status object's reason;
no answer at all is a plain `SourceError`. Files (kubeconfig, tokens) are read, and large answers decoded, in
threads of the client's own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from steersman.drivers.api import SourceError
from steersman.drivers.kubernetes.access import KubernetesAccess, read_place, read_token
from steersman.drivers.kubernetes.kubeconfig import Place
from steersman.drivers.kubernetes.marks import FIELD_MANAGER
from steersman.drivers.kubernetes.resources import Resource
from steersman.drivers.kubernetes.shapes import (
    ApiStatus,
    ObjectList,
    ServedResources,
    ServerVersion,
    StatusCause,
    WatchLine,
    encode,
)
from steersman.drivers.lane import Lane
from steersman.drivers.web.client import Answer, WebClient
from steersman.kernel.bounds import KIB
from steersman.kernel.clock import Clock
from steersman.kernel.secret import Secret

T = TypeVar("T")

PATCH_MERGE = "application/merge-patch+json"
PATCH_STRATEGIC = "application/strategic-merge-patch+json"
PATCH_JSON = "application/json-patch+json"

PAGE_LIMIT = 500
"""Objects of one page; what kubectl and client-go ask for."""
STREAMS_MAX = 64
"""Connections for watches: one for each kind of resource, and some that are about to close."""
TOKEN_READ_S = 60.0
"""A token file is read again after this: the kubelet renews a token when a fifth of its life is left."""
FILES_TIMEOUT_S = 10.0
"""For reading a kubeconfig or a token: longer, and the disk hangs."""
STATUS_MAX_BYTES = 64 * KIB
MESSAGE_MAX_CHARS = 300
"""Of a refusal's message: admission hooks write what they like."""
RETRY_AFTER_MAX_S = 300.0
LARGE_BYTES = 64 * KIB
"""A larger answer is decoded in a thread: some 200 us on the loop is the most that others should wait."""


class KubernetesRefused(SourceError):
    """The API server answered, and the answer is no.

    `status` is HTTP's (or the status object's in a watch), `reason` the API's word (`NotFound`, `Conflict`,
    `Expired`, ...; empty where there was no status object), `retry_after_s` how long the server asks to wait
    (None where it does not), `causes` the details (which disruption budget, which field).
    """

    code = "kubernetes_refused"
    title = "The Kubernetes API refused"

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        reason: str = "",
        retry_after_s: float | None = None,
        causes: tuple[StatusCause, ...] = (),
    ) -> None:
        super().__init__(detail, status=status, reason=reason)
        self.http_status = status
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.causes = causes

    @property
    def gone(self) -> bool:
        """Whether the resource version or the continue token is too old: list anew."""
        return self.http_status == 410 or self.reason in ("Expired", "Gone")

    @property
    def not_found(self) -> bool:
        """Whether there is no such object, or no such kind of resource."""
        return self.http_status == 404

    @property
    def conflict(self) -> bool:
        """Whether somebody else changed the object meanwhile, or a precondition does not hold."""
        return self.http_status == 409 and self.reason != "AlreadyExists"

    @property
    def already_exists(self) -> bool:
        """Whether the name is taken."""
        return self.reason == "AlreadyExists"

    @property
    def forbidden(self) -> bool:
        """Whether we may not: no login (401) or no right (403)."""
        return self.http_status in (401, 403)

    @property
    def throttled(self) -> bool:
        """Whether it may work later: a disruption budget, too many requests, an overload."""
        return self.http_status in (429, 503)


class KubeClient:
    """One API server. Makes no connection and reads no file before the first call."""

    def __init__(self, access: KubernetesAccess, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._files = Lane("kubernetes-files", access.place)
        self._decoding = Lane("kubernetes-decoding", access.place)
        self._place: Place | None = None
        self._suspect = False
        self._asks: WebClient | None = None
        self._streams: WebClient | None = None
        self._token: Secret | None = None
        self._token_read_s = 0.0

    @property
    def place(self) -> str:
        """Where it goes, as it may be shown."""
        return self._asks.place if self._asks is not None else self._access.place

    # ---- what the server is

    async def version(self, *, timeout_s: float) -> ServerVersion:
        """The server's version; also the cheapest sign of life. Raises `SourceError`."""
        return (await self._ask("GET", "/version", timeout_s=timeout_s)).json(ServerVersion)

    async def serves(self, resource: Resource, *, timeout_s: float) -> bool:
        """Whether the server has this kind of resource in this version. Raises `SourceError`."""
        try:
            answer = await self._ask("GET", resource.group_path, timeout_s=timeout_s)
        except KubernetesRefused as refused:
            if refused.not_found:
                return False
            raise
        served: ServedResources = answer.json(ServedResources)
        return any(one.name == resource.plural for one in served.resources or [])

    async def first_served(self, *resources: Resource, timeout_s: float) -> Resource | None:
        """The first of these (versions of one kind, the newest first) that the server has; None for none."""
        for resource in resources:
            if await self.serves(resource, timeout_s=timeout_s):
                return resource
        return None

    # ---- reading

    async def get(
        self,
        resource: Resource,
        name: str,
        shape: type[T] | Any = dict,
        *,
        namespace: str = "",
        timeout_s: float,
    ) -> Any:
        """One object as `shape`: the newest state, not a cached one. Raises `KubernetesRefused` (404)."""
        path = resource.path(namespace=namespace, name=name)
        return (await self._ask("GET", path, timeout_s=timeout_s)).json(shape)

    async def list_page(
        self,
        resource: Resource,
        fold: Callable[[ObjectList], T],
        *,
        namespace: str = "",
        limit: int = PAGE_LIMIT,
        token: str = "",
        labels: str = "",
        fields: str = "",
        timeout_s: float,
    ) -> T:
        """What `fold` makes of one page. `token` asks for the page after the one that gave it.

        The list is a consistent one of the newest state (no resource version is asked for, so none from a
        cache that lags). `fold` runs in a thread where the page is large: it must touch nothing of others.
        Raises `KubernetesRefused` (410: the token is too old) and `SourceError`.
        """
        query = _query(limit=limit or "", **{"continue": token}, labelSelector=labels, fieldSelector=fields)
        path = resource.path(namespace=namespace) + query
        answer = await self._ask("GET", path, timeout_s=timeout_s)

        def read() -> T:
            return fold(answer.json(ObjectList))

        if len(answer.body) < LARGE_BYTES:
            return read()
        return await self._decoding.run(read, timeout_s)

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str = "",
        initial_events: bool = False,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        watch_s: float,
        connect_timeout_s: float,
        idle_timeout_s: float,
    ) -> AsyncGenerator[AsyncIterator[WatchLine]]:
        """The changes after `resource_version`, as they come, until the server ends the stream (at the latest
        after `watch_s`). With `initial_events` the newest state comes first, as ADDED, up to a bookmark with
        the annotation `INITIAL_EVENTS_END`.

        Raises `KubernetesRefused` (410: list anew) and `SourceError`: silence over `idle_timeout_s`, a cut, a
        line that is no JSON. An ERROR event is told like any other: see `refusal`.
        """
        query = _query(
            watch="1",
            allowWatchBookmarks="true",
            timeoutSeconds=max(1, int(watch_s)),
            resourceVersion=resource_version,
            sendInitialEvents="true" if initial_events else "",
            resourceVersionMatch="NotOlderThan" if initial_events else "",
            labelSelector=labels,
            fieldSelector=fields,
        )
        path = resource.path(namespace=namespace) + query
        web = (await self._ready())[1]
        try:
            async with web.stream(
                path, connect_timeout_s=connect_timeout_s, idle_timeout_s=idle_timeout_s
            ) as stream:
                place = f"{web.place}{path.partition('?')[0]}"
                if stream.status != 200:
                    self._suspect = self._suspect or stream.status == 401
                    body = await stream.whole(STATUS_MAX_BYTES)
                    raise _refused(Answer(place, stream.status, {}, body))
                async with aclosing(stream.lines()) as texts, aclosing(_events(texts, place)) as events:
                    yield events
        except KubernetesRefused:
            raise
        except SourceError:
            self._suspect = True
            raise

    # ---- changing

    async def create(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        shape: type[T] | Any = dict,
        *,
        namespace: str = "",
        dry_run: bool = False,
        timeout_s: float,
    ) -> Any:
        """Create an object; as it then is. Raises `KubernetesRefused` (409 AlreadyExists)."""
        path = resource.path(namespace=namespace) + _changing(dry_run)
        return (await self._ask("POST", path, body=encode(body), timeout_s=timeout_s)).json(shape)

    async def replace(
        self,
        resource: Resource,
        name: str,
        body: Mapping[str, Any],
        shape: type[T] | Any = dict,
        *,
        namespace: str = "",
        subresource: str = "",
        dry_run: bool = False,
        timeout_s: float,
    ) -> Any:
        """Put an object (or its status, its scale) in place of what is there; as it then is. With a resource
        version in its metadata only where that is still the newest one (409 Conflict)."""
        path = resource.path(namespace=namespace, name=name, subresource=subresource) + _changing(dry_run)
        return (await self._ask("PUT", path, body=encode(body), timeout_s=timeout_s)).json(shape)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Any,
        shape: type[T] | Any = dict,
        *,
        kind: str = PATCH_MERGE,
        namespace: str = "",
        subresource: str = "",
        dry_run: bool = False,
        timeout_s: float,
    ) -> Any:
        """Change a part; the object as it then is. `metadata.resourceVersion` (or `uid`) in a merge patch is
        a precondition (409 Conflict). Custom resources take no `PATCH_STRATEGIC` (415)."""
        path = resource.path(namespace=namespace, name=name, subresource=subresource) + _changing(dry_run)
        answer = await self._ask("PATCH", path, body=encode(body), content_type=kind, timeout_s=timeout_s)
        return answer.json(shape)

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        grace_s: int | None = None,
        propagation: str = "",
        dry_run: bool = False,
        timeout_s: float,
    ) -> None:
        """Delete an object, with `uid` only that incarnation of the name (409 where it is another).

        A pod on a node, and what has finalizers, is only marked: it is gone when a read says 404.
        """
        path = resource.path(namespace=namespace, name=name)
        options = _delete_options(uid, resource_version, grace_s, propagation, dry_run)
        await self._ask("DELETE", path, body=encode(options), timeout_s=timeout_s)

    async def evict(
        self,
        name: str,
        *,
        namespace: str,
        uid: str = "",
        grace_s: int | None = None,
        dry_run: bool = False,
        timeout_s: float,
    ) -> None:
        """Ask for a pod to leave, as its disruption budget allows. Raises `KubernetesRefused`: 429 where the
        budget does not allow it now (`causes` name it), 404 where the pod is gone, 409 for another uid."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(name, safe='')}/eviction"
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": _delete_options(uid, "", grace_s, "", dry_run),
        }
        await self._ask("POST", path + _changing(dry_run), body=encode(body), timeout_s=timeout_s)

    async def close(self) -> None:
        """Close connections and threads. Repeating it does nothing."""
        asks, streams = self._asks, self._streams
        self._asks = self._streams = self._place = None
        try:
            for web in (asks, streams):
                if web is not None:
                    await web.close()
        finally:
            try:
                await self._files.close()
            finally:
                await self._decoding.close()

    # ---- inside

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout_s: float,
    ) -> Answer:
        headers = {"Accept": "application/json"} | (
            {"Content-Type": content_type} if body is not None else {}
        )
        for again in (True, False):
            used = (await self._ready())[0]
            token = self._token
            try:
                answer = await used.ask(method, path, body=body, headers=headers, timeout_s=timeout_s)
            except SourceError:
                self._suspect = True
                raise
            if answer.status == 401:
                self._suspect = True
                # A request that was refused for its token was not carried out, so it may be sent again.
                if again and await self._renewed(token):
                    continue
            if answer.status >= 400:
                raise _refused(answer)
            return answer
        raise SourceError(f"{self.place} refused a token that is new")  # the loop has returned or raised

    async def _ready(self) -> tuple[WebClient, WebClient]:
        """The clients for whole answers and for streams, of the place as it is now: one that failed is looked
        up anew, because a kubeconfig may have been written again."""
        if self._asks is None or self._streams is None or self._suspect:
            self._suspect = False
            place = await self._files.run(lambda: read_place(self._access), FILES_TIMEOUT_S)
            if place != self._place or self._asks is None or self._streams is None:
                old = (self._asks, self._streams)
                self._place = place
                self._token = place.token
                self._token_read_s = float("-inf")
                self._asks, self._streams = self._open(place), self._open(place, connections=STREAMS_MAX)
                for web in old:
                    if web is not None:
                        await web.close()
        return self._asks, self._streams

    def _open(self, place: Place, connections: int = 4) -> WebClient:
        return WebClient(
            place.url,
            self._clock,
            headers=self._headers,
            tls=place.tls,
            max_bytes=self._access.max_bytes,
            connections=connections,
        )

    async def _headers(self) -> Mapping[str, str]:
        place = self._place
        if place is None:
            raise SourceError(f"{self.place}: the client is closed")
        now_s = self._clock.monotonic()
        if place.token_file and now_s - self._token_read_s >= TOKEN_READ_S:
            await self._read_token(place.token_file)
        token = {"Authorization": f"Bearer {self._token.reveal()}"} if self._token is not None else {}
        return {**place.headers, **token}

    async def _read_token(self, path: str) -> None:
        self._token = await self._files.run(lambda: read_token(path), FILES_TIMEOUT_S)
        self._token_read_s = self._clock.monotonic()

    async def _renewed(self, refused: Secret | None) -> bool:
        """Whether the files have another token than the one that was refused."""
        await self._ready()
        place = self._place
        if place is not None and place.token_file:
            await self._read_token(place.token_file)
        return self._token != refused


async def _events(lines: AsyncIterator[bytes], place: str) -> AsyncGenerator[WatchLine]:
    async for line in lines:
        try:
            yield msgspec.json.decode(line, type=WatchLine)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise SourceError(f"{place}: a line of its stream is no event ({len(line)} bytes)") from None


def refusal(line: WatchLine, place: str) -> KubernetesRefused:
    """What an ERROR event of a watch says."""
    return _refused(Answer(place, 500, {}, bytes(line.object)))


def _refused(answer: Answer) -> KubernetesRefused:
    """A refusal in the server's words, where it gave a status object."""
    try:
        said = msgspec.json.decode(answer.body, type=ApiStatus)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = ApiStatus()
    if said.kind != "Status":
        said = ApiStatus()
    status = said.code or answer.status
    message = "".join(char if char.isprintable() else " " for char in said.message[:MESSAGE_MAX_CHARS])
    details = said.details
    after = _seconds(answer.headers.get("retry-after"))
    if after is None and details is not None and details.retry_after_seconds:
        after = float(details.retry_after_seconds)
    words = " ".join(part for part in (f"answered status {status}", said.reason) if part)
    return KubernetesRefused(
        f"{answer.place} {words}" + (f": {message}" if message else ""),
        status=status,
        reason=said.reason,
        retry_after_s=min(after, RETRY_AFTER_MAX_S) if after is not None else None,
        causes=tuple((details.causes if details is not None else None) or ()),
    )


def _seconds(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _query(**parameters: str | int) -> str:
    """A query of the parameters that are not empty."""
    given = {name: str(value) for name, value in parameters.items() if value != ""}
    return f"?{urlencode(given, quote_via=quote)}" if given else ""


def _changing(dry_run: bool) -> str:
    return _query(fieldManager=FIELD_MANAGER, dryRun="All" if dry_run else "")


def _delete_options(
    uid: str, resource_version: str, grace_s: int | None, propagation: str, dry_run: bool
) -> dict[str, Any]:
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    wanted = {"uid": uid, "resourceVersion": resource_version}
    if any(wanted.values()):
        options["preconditions"] = {name: value for name, value in wanted.items() if value}
    if grace_s is not None:
        options["gracePeriodSeconds"] = grace_s
    if propagation:
        options["propagationPolicy"] = propagation
    if dry_run:
        options["dryRun"] = ["All"]
    return options
