"""Style, script and icon, read once, and served under a path with their digest: a browser asks for each only once."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import web

from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.problems import Problem

_CONTENT_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    content_type: str
    body: bytes
    gzipped: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """All of them, by name; `digest` changes if one of them does."""

    digest: str
    by_name: Mapping[str, Asset]


def load() -> Assets:
    """Reads the assets of the package."""
    folder = files("daemon.web.dashboard") / "static"
    found = {
        file.name: _asset(file.name, file.read_bytes()) for file in sorted(folder.iterdir(), key=lambda it: it.name)
    }
    digest = hashlib.sha256(b"".join(asset.body for asset in found.values())).hexdigest()[:16]
    return Assets(digest=digest, by_name=found)


ASSETS = web.AppKey("assets", Assets)


@endpoint(Access.OPEN, is_page=True)
async def show(request: web.Request) -> web.Response:
    """An asset. A page that is older than this process gets the present one, and is not to keep it."""
    assets = request.app[ASSETS]
    asset = assets.by_name.get(request.match_info["name"])
    if asset is None:
        raise Problem(404, "there is nothing here")
    is_present = request.match_info["digest"] == assets.digest
    headers = {"Cache-Control": _FOR_EVER if is_present else "no-store", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=asset.gzipped, content_type=asset.content_type, headers=headers)
    return web.Response(body=asset.body, content_type=asset.content_type, headers=headers)


def _asset(name: str, body: bytes) -> Asset:
    content_type = _CONTENT_TYPES[name.rpartition(".")[2]]
    return Asset(content_type=content_type, body=body, gzipped=gzip.compress(body, mtime=0))
