"""When a TLS certificate expires, read from its DER form.

The standard library tells it only of a certificate that it has verified, and the expiry matters most of one
that no longer passes. The way to the date is short: Certificate → tbsCertificate → validity → notAfter
(RFC 5280 section 4.1), so no cryptography library is needed for it.
"""

from __future__ import annotations

from datetime import UTC, datetime

_SEQUENCE = 0x30
_VERSION = 0xA0
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18


def expires_at(der: bytes) -> datetime | None:
    """The certificate's notAfter, or None where the bytes are no certificate."""
    try:
        certificate, _ = _open(der, _SEQUENCE)
        body, _ = _open(certificate, _SEQUENCE)
        if body[0] == _VERSION:
            body = _skip(body)
        for _ in ("serial number", "signature algorithm", "issuer"):
            body = _skip(body)
        validity, _ = _open(body, _SEQUENCE)
        tag, text, _ = _element(_skip(validity))
        return _time(tag, text.decode("ascii"))
    except (IndexError, ValueError):
        return None


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag, content and what follows, of the first element of `data`."""
    tag, length, at = data[0], data[1], 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[at : at + size], "big")
        at += size
    if length > len(data) - at:
        raise ValueError("cut short")
    return tag, data[at : at + length], data[at + length :]


def _open(data: bytes, expected: int) -> tuple[bytes, bytes]:
    tag, content, rest = _element(data)
    if tag != expected:
        raise ValueError("not a certificate")
    return content, rest


def _skip(data: bytes) -> bytes:
    return _element(data)[2]


def _time(tag: int, text: str) -> datetime:
    if tag == _UTC_TIME:  # two-digit years: 50..99 are of the last century (RFC 5280 section 4.1.2.5.1)
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
