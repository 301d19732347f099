"""The options of access to a cluster: a URL, a context of a kubeconfig, or the cluster that we run in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from steersman.drivers.api import SourceError
from steersman.drivers.kubernetes.kubeconfig import (
    KUBECONFIG_MAX_BYTES,
    NAMESPACE_DEFAULT,
    Place,
    read_kubeconfig,
)
from steersman.drivers.web.client import Tls
from steersman.drivers.web.url import check_url, public_url
from steersman.kernel.bounds import KIB
from steersman.kernel.quantity import Between, ByteSize
from steersman.kernel.secret import Secret

SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where every pod finds its service account's token (renewed hourly), its authority and its namespace."""
TOKEN_MAX_BYTES = 64 * KIB
"""A token goes into a header; a service account's has about 1 KiB."""


class KubernetesAccess(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The `kubernetes` driver's options extend this. Exactly one of `url`, `kubeconfig`, `in_cluster`.

    - `url`: the API server. With it `token` or `token_file`, `cert_file` with `key_file`, `ca_file`,
      `verify_tls`.
    - `kubeconfig`: path of a kubeconfig file, with `context` (its current one by default). It is read when it
      is used, and again after a failure, so one that is missing does not stop the start.
    - `in_cluster`: as the service account of the pod that Steersman runs in.
    - `max_bytes`: a larger answer (decompressed) is refused; lists are read in pages, made smaller where
      one does not fit.
    """

    url: Annotated[
        str, Meta(pattern="^(https?://[^/].*)?$", max_length=2048, description="an http(s) URL")
    ] = ""
    kubeconfig: str | None = None
    context: str | None = None
    in_cluster: bool = False
    token: Secret | None = None
    token_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify_tls: bool = True
    max_bytes: Annotated[ByteSize, Between(ByteSize(1024), ByteSize(1 << 30))] = ByteSize(64 * 1024 * 1024)

    def __post_init__(self) -> None:
        if sum(1 for way in (self.url, self.kubeconfig, self.in_cluster) if way) != 1:
            raise ValueError("give one of url, kubeconfig, or in_cluster: true")
        if self.url:
            check_url(self.url)
            if public_url(self.url) != self.url:
                raise ValueError("url: user, password and query have no place in it; give a token")
        of_url = (self.token, self.token_file, self.ca_file, self.cert_file, self.key_file)
        if not self.url and (any(of_url) or not self.verify_tls):
            raise ValueError("token, token_file, ca_file, cert_file, key_file and verify_tls go with url")
        if self.context and not self.kubeconfig:
            raise ValueError("context goes with kubeconfig")
        if self.token and self.token_file:
            raise ValueError("give one of token and token_file")
        if self.token and any(char in self.token.reveal() for char in "\r\n"):
            raise ValueError("a token must not hold a line break")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together")
        if not self.verify_tls and self.ca_file:
            raise ValueError("ca_file and verify_tls: false don't go together: nothing would be verified")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place!r})"

    @property
    def place(self) -> str:
        """Where it goes, as it may be shown before anything is read."""
        if self.in_cluster:
            return "the cluster we run in"
        if self.kubeconfig:
            return f"{self.kubeconfig} ({self.context})" if self.context else self.kubeconfig
        return public_url(self.url)


def read_place(
    access: KubernetesAccess,
    environ: Mapping[str, str] | None = None,
    service_account_dir: str = SERVICE_ACCOUNT_DIR,
) -> Place:
    """Where the API server is now, read from the files that `access` names. Blocks: call it in a lane.

    Raises `SourceError`.
    """
    if access.kubeconfig:
        text = read_file(access.kubeconfig, KUBECONFIG_MAX_BYTES)
        return read_kubeconfig(text, access.kubeconfig, access.context)
    if access.in_cluster:
        return _in_cluster(environ if environ is not None else os.environ, service_account_dir)
    return Place(
        url=access.url,
        tls=Tls(access.verify_tls, access.ca_file, access.cert_file, access.key_file),
        token=access.token,
        token_file=access.token_file,
    )


def read_token(path: str) -> Secret:
    """The token in a file. Blocks. Raises `SourceError` naming the file."""
    try:
        token = read_file(path, TOKEN_MAX_BYTES).decode("ascii").strip()
    except UnicodeDecodeError:
        raise SourceError(f"{path} holds no token") from None
    if not token or any(char.isspace() for char in token):
        raise SourceError(f"{path} holds no token")
    return Secret(token)


def read_file(path: str, limit: int) -> bytes:
    """A small file. Blocks. Raises `SourceError` where it can't be read or has more than `limit` bytes."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise SourceError(f"{path} can't be read: {why}") from None
    if len(content) > limit:
        raise SourceError(f"{path} has more than {limit} bytes")
    return content


def _in_cluster(environ: Mapping[str, str], folder: str) -> Place:
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port.isdigit():
        raise SourceError(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; in_cluster works in a pod only"
        )
    namespace = NAMESPACE_DEFAULT
    try:
        found = read_file(f"{folder}/namespace", TOKEN_MAX_BYTES).decode("ascii", "replace").strip()
        namespace = found or NAMESPACE_DEFAULT
    except SourceError:
        pass  # only a default; the token and the authority are what is needed
    return Place(
        url=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        tls=Tls(ca_file=f"{folder}/ca.crt"),
        token_file=f"{folder}/token",
        namespace=namespace,
    )
