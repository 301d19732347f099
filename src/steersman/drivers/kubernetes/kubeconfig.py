"""Kubeconfig files: where a cluster is and as whom to speak to it, of one context.

Read are the parts that a service can use: certificates and keys (inline or as files), tokens (inline or as
a file), impersonation. What would be passed over in silence and change who we are or where we go is refused
with its name: exec plugins and auth providers (programs that run with our rights, chosen by a file that
other tools write), proxies, and passwords, which the API has not taken since 1.19.

Constants: kubernetes client-go tools/clientcmd/api/v1.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from pathlib import PurePath
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from steersman.drivers.api import SourceError
from steersman.drivers.web.client import Tls
from steersman.drivers.web.url import check_url
from steersman.kernel import yamltext
from steersman.kernel.bounds import MIB
from steersman.kernel.secret import Secret

KUBECONFIG_MAX_BYTES = 4 * MIB
"""What the YAML reader takes; a file of a thousand clusters with inline certificates has about 4 MiB."""
NAMESPACE_DEFAULT = "default"


class Place(Struct, frozen=True):
    """Where an API server is, and how to speak to it. `token_file` is read again while it is used, because
    its token is renewed there. `headers` impersonate."""

    url: str
    tls: Tls = Tls()
    token: Secret | None = None
    token_file: str | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    namespace: str = NAMESPACE_DEFAULT


class _Cluster(Struct, frozen=True, rename="kebab"):
    server: str = ""
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None


class _User(Struct, frozen=True, rename="kebab"):
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = field(default=None, name="tokenFile")
    username: str | None = None
    password: str | None = None
    as_: str | None = field(default=None, name="as")
    as_uid: str | None = None
    as_groups: list[str] | None = None
    as_user_extra: dict[str, Any] | None = None
    exec: dict[str, Any] | None = None
    auth_provider: dict[str, Any] | None = None


class _Context(Struct, frozen=True):
    cluster: str = ""
    user: str = ""
    namespace: str | None = None


class _NamedCluster(Struct, frozen=True):
    name: str = ""
    cluster: _Cluster = _Cluster()


class _NamedUser(Struct, frozen=True):
    name: str = ""
    user: _User | None = None


class _NamedContext(Struct, frozen=True):
    name: str = ""
    context: _Context = _Context()


class _Kubeconfig(Struct, frozen=True, rename="kebab"):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str = ""


_Named = TypeVar("_Named", _NamedCluster, _NamedUser, _NamedContext)


def read_kubeconfig(text: bytes, file: str, context: str | None = None) -> Place:
    """The place of `context`, or of the file's current one. Relative paths are relative to `file`.

    Raises `SourceError` naming the file and what is wrong in it, never a value out of it.
    """
    if len(text) > KUBECONFIG_MAX_BYTES:
        raise SourceError(f"{file} has more than {KUBECONFIG_MAX_BYTES} bytes; expected a kubeconfig")
    try:
        config = msgspec.convert(yamltext.parse(text, file).plain(), _Kubeconfig)
    except yamltext.YamlInvalid as error:
        raise SourceError(
            f"{file} is no kubeconfig: line {error.facts.get('line', '?')} can't be read"
        ) from None
    except msgspec.ValidationError as error:
        raise SourceError(f"{file} is no kubeconfig: {error}") from None
    wanted = context or config.current_context
    if not wanted:
        raise SourceError(f"{file} has no current-context; name one as context")
    chosen = _find(config.contexts, wanted, f"{file}: context").context
    cluster = _find(config.clusters, chosen.cluster, f"{file}: context {wanted!r}: cluster").cluster
    user = _find(config.users, chosen.user, f"{file}: context {wanted!r}: user").user if chosen.user else None
    return _place(cluster, user or _User(), chosen.namespace or NAMESPACE_DEFAULT, file)


def _find(items: list[_Named] | None, name: str, what: str) -> _Named:
    for item in items or []:
        if item.name == name:
            return item
    names = ", ".join(repr(item.name) for item in (items or [])[:10]) or "none"
    raise SourceError(f"{what} {name!r} is not there; there is {names}")


def _place(cluster: _Cluster, user: _User, namespace: str, file: str) -> Place:
    refused = {
        "exec": user.exec is not None,
        "auth-provider": user.auth_provider is not None,
        "username": user.username is not None or user.password is not None,
        "as-user-extra": bool(user.as_user_extra),
        "proxy-url": bool(cluster.proxy_url),
    }
    for key, there in refused.items():
        if there:
            raise SourceError(
                f"{file} has {key}, which Steersman does not use; "
                "give it a service account's token (token, token_file) or a client certificate"
            )
    if (user.as_groups or user.as_uid) and not user.as_:
        raise SourceError(f"{file} has as-groups or as-uid without as; expected the user to act as")
    try:
        if not cluster.server.startswith(("http://", "https://")):
            raise ValueError("server: expected an http(s) URL")
        check_url(cluster.server)
    except ValueError as error:
        raise SourceError(f"{file}: {error}") from None
    headers = {"Impersonate-User": user.as_} if user.as_ else {}
    headers |= {"Impersonate-Uid": user.as_uid} if user.as_uid else {}
    if len(user.as_groups or []) > 1:
        raise SourceError(f"{file} has more than one of as-groups; expected at most one")
    for group in user.as_groups or []:
        headers["Impersonate-Group"] = group
    if any(char in text for text in [*headers.values(), user.token or ""] for char in "\r\n"):
        raise SourceError(f"{file}: a token, user or group must not hold a line break")
    return Place(
        url=cluster.server,
        tls=_tls(cluster, user, file),
        token=Secret(user.token) if user.token and not user.token_file else None,
        token_file=_file(user.token_file, file),
        headers=headers,
        namespace=namespace,
    )


def _tls(cluster: _Cluster, user: _User, file: str) -> Tls:
    """Inline data wins over a file, as it does for kubectl."""
    ca_pem = _data(cluster.certificate_authority_data, "certificate-authority-data", file)
    cert_pem = _data(user.client_certificate_data, "client-certificate-data", file)
    key_pem = _data(user.client_key_data, "client-key-data", file)
    cert_file = _file(user.client_certificate, file) if cert_pem is None else None
    key_file = _file(user.client_key, file) if key_pem is None else None
    if (cert_pem is None and cert_file is None) != (key_pem is None and key_file is None):
        raise SourceError(f"{file} has a client certificate or a client key; expected both or none")
    if (cert_pem is None) != (key_pem is None) and (cert_pem or key_pem):
        raise SourceError(f"{file} has only one of certificate and key inline; expected both, or two files")
    pair = f"{cert_pem}\n{key_pem}" if cert_pem is not None else None
    skip = cluster.insecure_skip_tls_verify
    return Tls(
        verify=not skip,
        ca_file=_file(cluster.certificate_authority, file) if ca_pem is None and not skip else None,
        ca_pem=ca_pem if not skip else None,
        cert_file=cert_file,
        key_file=key_file,
        pair_pem=Secret(pair) if pair is not None else None,
        server_name=cluster.tls_server_name,
    )


def _data(text: str | None, key: str, file: str) -> str | None:
    if not text:
        return None
    try:
        return b64decode(text, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise SourceError(f"{file}: {key} is not PEM in base64") from None


def _file(path: str | None, beside: str) -> str | None:
    return str(PurePath(beside).parent / path) if path else None
