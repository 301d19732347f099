"""Where an API server is and as whom to speak to it: kubeconfigs, the pod's own account, options."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.drivers.api import SourceError
from steersman.drivers.kubernetes.access import KubernetesAccess, read_place, read_token
from steersman.drivers.kubernetes.kubeconfig import read_kubeconfig
from steersman.kernel.secret import Secret

SECRET = "hunter2-very-secret"
PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
FILE = "/etc/kube/config"


def config(user: Any = None, cluster: Any = None, **more: Any) -> bytes:
    """A kubeconfig of two contexts; JSON is YAML."""
    found: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": "prod",
        "clusters": [
            {"name": "east", "cluster": {"server": "https://east:6443", **(cluster or {})}},
            {"name": "west", "cluster": {"server": "http://west:8080/base"}},
        ],
        "users": [{"name": "robot", "user": user or {}}, {"name": "nobody", "user": None}],
        "contexts": [
            {"name": "prod", "context": {"cluster": "east", "user": "robot", "namespace": "ml"}},
            {"name": "lab", "context": {"cluster": "west", "user": "nobody"}},
        ],
        **more,
    }
    return json.dumps(found).encode()


def test_the_current_context_is_taken_unless_another_is_named() -> None:
    place = read_kubeconfig(config({"token": SECRET}), FILE)
    assert (place.url, place.namespace, place.token) == ("https://east:6443", "ml", Secret(SECRET))
    other = read_kubeconfig(config({"token": SECRET}), FILE, "lab")
    assert (other.url, other.namespace, other.token) == ("http://west:8080/base", "default", None)


def test_files_are_beside_the_kubeconfig_and_inline_data_wins() -> None:
    files = {"client-certificate": "me.pem", "client-key": "/keys/me.key", "tokenFile": "t"}
    place = read_kubeconfig(config(files, {"certificate-authority": "ca.pem"}), FILE)
    tls = place.tls
    found = (tls.ca_file, tls.cert_file, tls.key_file, place.token_file, place.token)
    assert found == ("/etc/kube/ca.pem", "/etc/kube/me.pem", "/keys/me.key", "/etc/kube/t", None)
    data = b64encode(PEM.encode()).decode()
    inline = {**files, "client-certificate-data": data, "client-key-data": data}
    authority = {"certificate-authority": "c", "certificate-authority-data": data, "tls-server-name": "api"}
    tls = read_kubeconfig(config(inline, authority), FILE).tls
    assert (tls.ca_file, tls.cert_file, tls.key_file, tls.ca_pem) == (None, None, None, PEM)
    assert (tls.pair_pem, tls.server_name) == (Secret(f"{PEM}\n{PEM}"), "api")


def test_who_to_act_as_goes_into_headers() -> None:
    place = read_kubeconfig(config({"as": "system:sa", "as-groups": ["ops"], "as-uid": "7"}), FILE)
    assert place.headers == {
        "Impersonate-User": "system:sa", "Impersonate-Uid": "7", "Impersonate-Group": "ops",
    }  # fmt: skip


def test_an_insecure_cluster_is_not_verified() -> None:
    assert not read_kubeconfig(config(cluster={"insecure-skip-tls-verify": True}), FILE).tls.verify


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (config({"exec": {"command": "aws", "args": [SECRET]}}), "exec"),
        (config({"auth-provider": {"name": "gcp", "config": {"x": SECRET}}}), "auth-provider"),
        (config({"username": "u", "password": SECRET}), "username"),
        (config(cluster={"proxy-url": f"http://u:{SECRET}@proxy"}), "proxy-url"),
        (config({"as-groups": ["ops"]}), "without as"),
        (config({"as": "u", "as-groups": ["a", "b"]}), "more than one"),
        (config({"client-certificate": "a.pem"}), "expected both"),
        (config({"client-certificate": "a", "client-key-data": "QQ=="}), "only one"),
        (config({"client-certificate-data": SECRET, "client-key-data": "QQ=="}), "client-certificate-data"),
        (config({"token": f"{SECRET}\nX: y"}), "line break"),
        (config({"token": 12345}), "Expected"),
        (config(cluster={"server": f"https://u:{SECRET}/x@east"}), "url|server|host"),
        (config(cluster={"server": "unix:///x"}), "http"),
        (config(**{"current-context": ""}), "no current-context"),
        (config(**{"current-context": "gone"}), "'gone' is not there; there is 'prod', 'lab'"),
        (config(clusters=None), "cluster 'east' is not there; there is none"),
        (config(users=[]), "user 'robot'"),
        (b"a: [", "no kubeconfig"),
        (b"\xff\xfe", "no kubeconfig"),
        (b"[]", "no kubeconfig"),
        (b"", "no kubeconfig"),
    ],
)
def test_what_is_wrong_in_a_kubeconfig_is_named_without_its_values(text: bytes, says: str) -> None:
    with pytest.raises(SourceError, match=says) as refused:
        read_kubeconfig(text, FILE)
    assert FILE in refused.value.detail
    assert SECRET not in refused.value.detail


@given(st.binary(max_size=200))
def test_any_bytes_are_a_kubeconfig_or_a_source_error(text: bytes) -> None:
    with pytest.raises(SourceError):
        read_kubeconfig(text, FILE)


def test_in_a_pod_its_own_account_is_used(tmp_path: Path) -> None:
    for name, text in {"token": f"{SECRET}\n", "ca.crt": PEM, "namespace": "ops"}.items():
        (tmp_path / name).write_text(text)
    access = KubernetesAccess(in_cluster=True)
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    place = read_place(access, environ, str(tmp_path))
    assert (place.url, place.namespace) == ("https://[fd00::1]:443", "ops")
    assert place.tls.ca_file == str(tmp_path / "ca.crt")
    assert place.token_file is not None
    assert read_token(place.token_file) == Secret(SECRET)
    with pytest.raises(SourceError, match="KUBERNETES_SERVICE_HOST"):
        read_place(access, {}, str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"  \n", b"two words", b"\xff", b"x" * 100_000])
def test_a_file_without_a_token_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(SourceError, match="token"):
        read_token(str(tmp_path / "token"))
    with pytest.raises(SourceError, match=r"none can't be read"):
        read_token(str(tmp_path / "none"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "http://h", "in_cluster": True},
        {"url": "http://h", "kubeconfig": "c"},
        {"url": "http://h", "context": "c"},
        {"url": "http://u:p@h"},
        {"url": "http://h?x=y"},
        {"in_cluster": True, "token": Secret("t")},
        {"kubeconfig": "c", "verify_tls": False},
        {"url": "http://h", "token": Secret("t"), "token_file": "t"},
        {"url": "http://h", "token": Secret("t\r\nX: y")},
        {"url": "http://h", "cert_file": "c"},
        {"url": "https://h", "ca_file": "c", "verify_tls": False},
    ],
)
def test_access_to_a_cluster_that_contradicts_itself_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        KubernetesAccess(**options)


def test_access_shows_no_secret() -> None:
    access = KubernetesAccess(url="http://h", token=Secret(SECRET))
    assert SECRET not in f"{access!r} {access.place}"
