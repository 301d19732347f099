"""What a request asks for: kind, namespace, name, subresource and parameters, out of its path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Struct

from steersman.drivers.kubernetes.fake.catalogue import Kind
from steersman.drivers.kubernetes.fake.refusal import Refusal
from steersman.drivers.kubernetes.fake.selectors import fields_match, labels_match
from steersman.drivers.kubernetes.fake.tree import Object
from steersman.drivers.kubernetes.fake.watching import Chosen
from steersman.drivers.kubernetes.shapes import ObjectKey
from steersman.drivers.web.fake import Request


class Asked(Struct, frozen=True):
    """One request for a resource."""

    method: str
    kind: Kind
    namespace: str
    name: str
    subresource: str
    query: dict[str, str]
    content_type: str
    body: bytes

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return (self.namespace, self.name)

    @property
    def verb(self) -> str:
        """The verb that rights are given for."""
        if self.method == "GET":
            if self.truth("watch"):
                return "watch"
            return "get" if self.name else "list"
        if self.method == "DELETE" and not self.name:
            return "deletecollection"
        return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(self.method, "")

    @property
    def manager(self) -> str:
        """Who writes."""
        return self.query.get("fieldManager", "")

    @property
    def dry(self) -> bool:
        """Whether nothing may be changed. Raises `Refusal`."""
        given = self.query.get("dryRun", "")
        if given not in ("", "All"):
            raise Refusal("Invalid", f'Invalid value: "{given}": dryRun: supported values: "All"')
        return given == "All"

    def truth(self, name: str) -> bool:
        """A parameter that is on or off."""
        return self.query.get(name, "") in ("1", "true", "True")

    def json(self) -> Any:
        """The body. Raises `Refusal` (400)."""
        try:
            return msgspec.json.decode(self.body or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Refusal("BadRequest", "the object provided is not JSON") from None

    def object(self) -> Object:
        """The body, an object. Raises `Refusal`: 400, 415 for what is no JSON."""
        if self.content_type not in ("", "application/json"):
            raise Refusal(
                "UnsupportedMediaType", f"the body of the request was in {self.content_type}; want JSON"
            )
        body = self.json()
        if not isinstance(body, dict):
            raise Refusal("BadRequest", "the object provided is no object")
        return cast("Object", body)

    def chosen(self) -> Chosen:
        """Whether an object is in the namespace and meets the selectors. Raises `Refusal`."""
        where = self.namespace
        by_labels = labels_match(self.query.get("labelSelector", ""))
        by_fields = fields_match(
            self.query.get("fieldSelector", ""), self.kind.fields, self.kind.resource.plural
        )
        name = self.name

        def matches(thing: Object) -> bool:
            meta: Object = thing["metadata"]
            if (where and meta.get("namespace", "") != where) or (name and meta["name"] != name):
                return False
            return by_labels(thing) and by_fields({"metadata": {"namespace": ""}, **thing})

        return matches

    def version(self) -> int | None:
        """The resource version asked for; None without one. Raises `Refusal` (400)."""
        text = self.query.get("resourceVersion", "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit()):
            raise Refusal(
                "BadRequest", f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing'
            )
        return int(text)


def read_request(request: Request, kinds: Iterable[Kind]) -> Asked | None:
    """What is asked for; None where no kind is served at that path."""
    path, _, query = request.path.partition("?")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    for kind in kinds:
        base = kind.resource.group_path + "/"
        if not path.startswith(base):
            continue
        parts = [unquote(part) for part in path.removeprefix(base).strip("/").split("/")]
        namespace = ""
        if kind.resource.namespaced and parts[0] == "namespaces" and len(parts) > 2:
            namespace, parts = parts[1], parts[2:]
        if parts[0] != kind.resource.plural or len(parts) > 3:
            continue
        if kind.resource.plural == "namespaces" and len(parts) > 2 and parts[2] != "status":
            continue
        name, subresource = (*parts[1:], "", "")[:2]
        if subresource and subresource not in kind.subresources:
            return None
        asked = dict(parse_qsl(query, keep_blank_values=True))
        return Asked(request.method, kind, namespace, name, subresource, asked, content_type, request.body)
    return None
