"""URLs of the configuration: what is wrong with one, and how one may be shown.

A URL may hold credentials (user and password, query), so nothing here repeats one, and what is shown is what
is left without them.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def check_url(url: str) -> None:
    """Refuse a URL that no request can be sent to. Raises ValueError, which does not repeat it.

    An @ behind the host is refused too: that is what a password with a slash in it looks like, and the rest
    of that password would be taken for the host and shown.
    """
    if any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError("url: white space and control characters can't stand in it; write them as %20 etc.")
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:  # the library's text may hold a piece of a password
        raise ValueError(
            "url: its host or port can't be read; expected http(s)://host:port/path. "
            "In a user or password write / ? # @ : as %2F %3F %23 %40 %3A"
        ) from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(
            "url: an @ behind the host; write it as %40, and in a user or password / ? # as %2F %3F %23"
        )


def public_url(url: str) -> str:
    """The URL without user, password, query and fragment: secrets travel in each of them."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
