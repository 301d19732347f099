"""The dashboard's files, as the build left them; or a page that says that it was not built.

`/` answers the one page of the application, never cached; places in it are behind the `#`. `/assets/...`
holds files whose names carry a hash of their content, cached for a year. Only files that exist in the folder
are served, read into memory once: what is asked for is looked up, never opened as a path.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec import Struct

from steersman.api.exchange import Exchange
from steersman.api.problems import Headers, RouteNotFound, reveal
from steersman.kernel.bounds import MIB

FILE_MAX_BYTES = 16 * MIB
FILES_MAX = 512

PAGE_CSP = (
    b"content-security-policy",
    b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
)

MEDIA_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".ico": b"image/x-icon",
    ".woff2": b"font/woff2",
    ".json": b"application/json",
    ".webmanifest": b"application/manifest+json",
    ".txt": b"text/plain; charset=utf-8",
}
"""What a build may hold; a file of another kind is not served."""

NOT_BUILT = b"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Steersman</title></head>
<body>
<h1>Steersman is running</h1>
<p>The dashboard was not built. Everything else works.</p>
<p>Build it with <code>make dashboard</code> in a checkout, or install with <code>pip install .</code>,
which builds it along the way; then start Steersman again.</p>
<ul>
<li><a href="/api/v1/entities">entities</a></li>
<li><a href="/api/v1/status">status</a></li>
<li><a href="/metrics">metrics</a></li>
<li><a href="/openapi.json">API description</a></li>
</ul>
</body>
</html>
"""


class File(Struct, frozen=True):
    """One file, ready to be sent."""

    body: bytes
    media_type: bytes


class Site:
    """The built dashboard."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, File] | None = None

    async def files(self) -> dict[str, File]:
        """The files by their path within the folder; read at the first request, beside the event loop."""
        if self._files is None:
            self._files = await asyncio.to_thread(_read, self._folder)
        return self._files

    async def page(self, exchange: Exchange) -> None:
        """The application's page."""
        index = (await self.files()).get("index.html") or File(NOT_BUILT, MEDIA_TYPES[".html"])
        await exchange.answer(200, index.body, _headers(index, b"no-cache"))

    async def asset(self, exchange: Exchange) -> None:
        """A file with a hash in its name. Raises `RouteNotFound`."""
        await self._send(
            exchange, "assets/" + exchange.parameters["file"], b"public, max-age=31536000, immutable"
        )

    async def _send(self, exchange: Exchange, name: str, caching: bytes) -> None:
        file = (await self.files()).get(name)
        if file is None:
            raise RouteNotFound(f"the dashboard has no file {reveal(name)!r}")
        await exchange.answer(200, file.body, _headers(file, caching))


def _headers(file: File, caching: bytes) -> Headers:
    return [(b"content-type", file.media_type), (b"cache-control", caching), PAGE_CSP]


def _read(folder: Path) -> dict[str, File]:
    files: dict[str, File] = {}
    if not folder.is_dir():
        return files
    for path in sorted(folder.rglob("*"))[:FILES_MAX]:
        media_type = MEDIA_TYPES.get(path.suffix)
        if media_type is not None and path.is_file() and path.stat().st_size <= FILE_MAX_BYTES:
            files[path.relative_to(folder).as_posix()] = File(path.read_bytes(), media_type)
    return files
