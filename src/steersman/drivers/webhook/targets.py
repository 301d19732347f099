"""Where webhooks may be sent to: the public internet, and what the configuration names.

Whoever may make a subscription could else have the plane call anything that it can reach and its caller
cannot: the cloud's metadata service, databases, other services on loopback. So an address that is not public
is refused unless `events.allow_targets` has it. What is judged is the address that is about to be connected
to, never the name alone: a name may resolve to something else a moment later.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from steersman.drivers.web.url import check_url
from steersman.kernel.errors import InvalidInput, Refused

Address = IPv4Address | IPv6Address

_REFUSED_V4 = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
"""IANA IPv4 special-purpose registry and multicast. A table of ours: the library's answers vary."""
_GLOBAL_V6 = IPv6Network("2000::/3")
"""What IANA has given out as global unicast; everything else is refused but NAT64."""
_REFUSED_V6 = tuple(
    ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16")
)
_NAT64 = IPv6Network("64:ff9b::/96")
_METADATA = frozenset(
    ip_address(text) for text in ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254")
)
"""Metadata services of clouds; one is in public space. Only a network opens them, never a name."""


class TargetRefused(Refused):
    """The receiver's address is not public and not allowed by `events.allow_targets`. `facts`: `target`."""

    code = "target_refused"
    title = "Target not allowed"


class UrlInvalid(InvalidInput):
    """The URL can't be sent to: its scheme, host or port, or it carries a user and password."""

    code = "url_invalid"
    title = "URL not usable"


class Targets:
    """What may be connected to. `allowed`: networks (`10.20.0.0/16`, `fd00::/8`, an address) and host names,
    each of them as `events.allow_targets` has it. Raises `InvalidInput` for one that is neither."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._hosts: set[str] = set()
        networks: list[tuple[int, int, int]] = []
        for text in allowed:
            try:
                if _looks_like_address(text):
                    network = ip_network(text, strict=False)
                    networks.append((network.version, int(network.network_address), int(network.netmask)))
                else:
                    self._hosts.add(read_host(text))
            except ValueError as error:
                raise InvalidInput(f"events.allow_targets: {error}") from None
        self._masks = tuple(networks)

    def check_url(self, url: str) -> None:
        """Refuse a URL that could never be sent to. A host name is judged when it is connected to.

        Raises `UrlInvalid`, `TargetRefused`; neither repeats the URL.
        """
        try:
            check_url(url)
        except ValueError as error:
            raise UrlInvalid(str(error)) from None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise UrlInvalid("url: its scheme must be https or http")
        if parts.username is not None or parts.password is not None:
            raise UrlInvalid("url: it must not carry a user or password; receivers check the signature")
        host = parts.hostname or ""
        literal = _literal(host)
        if literal is not None:
            self.check(host, literal)
        elif host in ("localhost", "localhost.") and not self._hosts & {"localhost"} and not self._loops():
            raise refusal(host)

    def check(self, host: str, address: Address) -> None:
        """Refuse to connect to `address`, which `host` is or resolved to. Raises `TargetRefused`."""
        if not self.takes(host, address):
            raise refusal(host)

    def takes(self, host: str, address: Address) -> bool:
        """Whether that address of that host may be connected to. Each address that is packed into another
        one (IPv4 in IPv6, NAT64, 6to4, Teredo) must be allowed too."""
        inner = _unpacked(address)
        if self._listed(address) or (inner is not None and self._listed(inner)):
            return True
        if address in _METADATA or inner in _METADATA:
            return False
        if host.rstrip(".").lower() in self._hosts:
            return True
        return is_public(address)

    def _listed(self, address: Address) -> bool:
        number = int(address)
        return any(
            version == address.version and number & mask == network for version, network, mask in self._masks
        )

    def _loops(self) -> bool:
        return self._listed(IPv4Address("127.0.0.1")) or self._listed(IPv6Address("::1"))


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, as is each that it packs in."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4) and address.is_global
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _GLOBAL_V6 or any(address in network for network in _REFUSED_V6):
        return False
    return address.is_global


def read_host(text: str) -> str:
    """A host name as it is compared. Raises ValueError."""
    host = text.rstrip(".").lower()
    labels = host.split(".")
    if len(host) > 253 or not all(
        0 < len(label) <= 63 and label.isascii() and label.replace("-", "").replace("_", "").isalnum()
        for label in labels
    ):
        raise ValueError(f"{text[:80]!r} is no network (10.0.0.0/8), address or host name")
    return host


def read_address(text: str) -> Address | None:
    """An address as a resolver writes it; None for what is none."""
    return _literal(text)


def _unpacked(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or int(address) < 1 << 32:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        return address.sixtofour
    return address.teredo[1] if address.teredo is not None else None


def _looks_like_address(text: str) -> bool:
    return "/" in text or _literal(text) is not None


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def refusal(host: str) -> TargetRefused:
    """The error for a host whose address may not be connected to."""
    return TargetRefused(
        f"{host[:253]} is, or resolves to, an address that is not public; an operator of the plane may allow "
        "it with events.allow_targets",
        target=host[:253],
    )
