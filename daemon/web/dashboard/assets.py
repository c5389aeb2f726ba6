"""Style, script and icon: read once, and served under a path with their digest, so that browsers can cache them.

An installation may have a logo and an accent of its own: then there are two assets more.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from aiohttp import web

from daemon.config import accents, logos
from daemon.config.accents import AccentPair, Theme
from daemon.config.sections import DashboardSection
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.problems import Problem
from daemon.web.http.requests.preferences import preferences

_CONTENT_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "png": "image/png"}
# An SVG is a document: opened by itself it may neither run nor load anything.
_INERT = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
_ICON, _ACCENT = "icon.svg", "accent.css"
_IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    content_type: str
    body: bytes
    gzipped: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """All assets by name. `digest` changes when one of them changes. `logo` is the name of the installation's logo, or
    of our own icon; `accent` that of the style with the installation's accent, None if it has none.
    """

    digest: str
    by_name: Mapping[str, Asset]
    logo: str
    accent: str | None


def load(dashboard: DashboardSection) -> Assets:
    """Reads the assets of the package and those of the installation. Raises ValueError for a logo that is refused."""
    folder = files("daemon.web.dashboard") / "static"
    bodies = {file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda it: it.name)}
    logo = None if dashboard.logo_file is None else logos.read(dashboard.logo_file)
    if logo is not None:
        bodies[logo.name] = logo.body
    if dashboard.accent is not None:
        bodies[_ACCENT] = _accent_style(dashboard.accent).encode()
    return Assets(
        digest=hashlib.sha256(b"".join(bodies.values())).hexdigest()[:16],
        by_name={name: _asset(name, body) for name, body in bodies.items()},
        logo=_ICON if logo is None else logo.name,
        accent=None if dashboard.accent is None else _ACCENT,
    )


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
    if asset.content_type.startswith("image/"):
        headers |= _INERT
    if preferences(request, "Accept-Encoding").get("gzip", 0.0) > 0.0:
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=asset.gzipped, content_type=asset.content_type, headers=headers)
    return web.Response(body=asset.body, content_type=asset.content_type, headers=headers)


def _accent_style(accent: AccentPair) -> str:
    light, dark = _variables("light", accent.light), _variables("dark", accent.dark)
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def _variables(theme: Theme, accent: str) -> str:
    colors = accents.palette(theme, accent)
    return (
        f"--accent: {colors.accent}; --accent-hover: {colors.hover}; "
        f"--accent-soft: {colors.soft}; --on-accent: {colors.on_accent};"
    )


@lru_cache(maxsize=64)
def _asset(name: str, body: bytes) -> Asset:
    """Remembered, because tests build hundreds of applications: 3 ms of each were to compress its assets."""
    content_type = _CONTENT_TYPES[name.rpartition(".")[2]]
    return Asset(content_type=content_type, body=body, gzipped=gzip.compress(body, mtime=0))
