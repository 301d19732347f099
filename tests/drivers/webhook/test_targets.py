"""Where webhooks may be sent to: a table of addresses in all their spellings."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from steersman.drivers.webhook.targets import TargetRefused, Targets, UrlInvalid, is_public
from steersman.kernel.errors import InvalidInput

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.8.8.8",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "5f00::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808"]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_public_is_refused_also_under_a_name(text: str) -> None:
    targets = Targets()
    assert not targets.takes("hooks.example", ip_address(text))
    host = f"[{text}]" if ":" in text else text
    with pytest.raises((TargetRefused, UrlInvalid)):
        targets.check_url(f"http://{host}/x")


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_taken(text: str) -> None:
    assert is_public(ip_address(text))
    assert Targets().takes("hooks.example", ip_address(text))


def test_the_list_opens_networks_addresses_and_names() -> None:
    targets = Targets(["10.20.0.0/16", "fd00::/8", "127.0.0.1", "Hooks.Internal."])
    for text in ("10.20.3.4", "fd12::1", "127.0.0.1", "::ffff:10.20.3.4"):
        targets.check("any", ip_address(text))
    for text in ("10.21.0.1", "127.0.0.2", "fc00::1"):
        with pytest.raises(TargetRefused):
            targets.check("any", ip_address(text))
    assert targets.takes("hooks.internal", ip_address("192.168.0.9"))
    assert not targets.takes("hooks.internal", ip_address("169.254.169.254")), "a name never opens metadata"
    assert Targets(["169.254.169.254"]).takes("x", ip_address("169.254.169.254"))


@pytest.mark.parametrize("url", ["http://localhost/x", "http://localhost.:80/", "https://LOCALHOST/"])
def test_the_loopback_name_is_refused_at_once(url: str) -> None:
    with pytest.raises(TargetRefused):
        Targets().check_url(url)
    Targets(["127.0.0.0/8"]).check_url(url)


@pytest.mark.parametrize(
    "url", ["", "x", "ftp://example.org/", "file:///etc/passwd", "http://", "http://u:p@h/", "http://h:0/"]
)
def test_what_is_no_url_to_send_to_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UrlInvalid) as caught:
        Targets().check_url(url)
    assert "u:p" not in caught.value.detail


@pytest.mark.parametrize("text", ["10.0.0.0/99", "a b", "-", "", "http://x/", "a..b"])
def test_a_list_with_nonsense_in_it_is_refused(text: str) -> None:
    if text == "-":
        text = "!"
    with pytest.raises(InvalidInput):
        Targets([text])
