"""Style, script and icon: read once, and served under a path with their digest, so that browsers can cache them."""

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
_IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    content_type: str
    body: bytes
    gzipped: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """All assets by name. `digest` changes when one of them changes."""

    digest: str
    by_name: Mapping[str, Asset]


def load() -> Assets:
    """Reads the assets of the package."""
    folder = files("daemon.web.dashboard") / "static"
    by_name = {
        file.name: _asset(file.name, file.read_bytes()) for file in sorted(folder.iterdir(), key=lambda it: it.name)
    }
    digest = hashlib.sha256(b"".join(asset.body for asset in by_name.values())).hexdigest()[:16]
    return Assets(digest=digest, by_name=by_name)


ASSETS = web.AppKey("assets", Assets)


@endpoint(Access.OPEN, is_page=True)
async def show(request: web.Request) -> web.Response:
    """An asset. A page that was rendered by another version gets the current asset, uncached."""
    assets = request.app[ASSETS]
    asset = assets.by_name.get(request.match_info["name"])
    if asset is None:
        raise Problem(404, "there is nothing here")
    is_current = request.match_info["digest"] == assets.digest
    headers = {"Cache-Control": _IMMUTABLE if is_current else "no-store", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=asset.gzipped, content_type=asset.content_type, headers=headers)
    return web.Response(body=asset.body, content_type=asset.content_type, headers=headers)


def _asset(name: str, body: bytes) -> Asset:
    content_type = _CONTENT_TYPES[name.rpartition(".")[2]]
    return Asset(content_type=content_type, body=body, gzipped=gzip.compress(body, mtime=0))
