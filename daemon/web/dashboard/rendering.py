"""Templates, and what each of them may use: links, moments, assets, and who looks.

Undefined names are errors, everything is escaped, and no page may load, frame or send anything elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from urllib.parse import quote, urlencode, urlsplit

import aiohttp_jinja2
from aiohttp import web
from jinja2 import PackageLoader, StrictUndefined

from daemon.web.dashboard import assets, figures
from daemon.web.dashboard.assets import ASSETS
from daemon.web.dashboard.notices import NOTICES
from daemon.web.dashboard.viewer import viewer_of
from daemon.web.services import SERVICES

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def set_up(application: web.Application) -> None:
    """Has an application render templates."""
    application[ASSETS] = assets.load()
    aiohttp_jinja2.setup(
        application,
        loader=PackageLoader("daemon.web.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        filters=figures.FILTERS,
        default_helpers=False,
    )


def render(
    request: web.Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: object,
) -> web.Response:
    """A page, or a part of one: a template that does not extend another."""
    text = text_of(request, template, **context)
    return web.Response(text=text, status=status, headers=HEADERS | dict(headers or {}), content_type="text/html")


def text_of(request: web.Request, template: str, **context: object) -> str:
    """A part of a page, as text."""
    return aiohttp_jinja2.render_string(template, request, {**_standing(request), **context})


def redirect(request: web.Request, *parts: str, **query: str | int | None) -> web.Response:
    """To another page, by GET. `done` names a notice."""
    return web.Response(status=303, headers={"Location": link(request, *parts, **query)})


def link(request: web.Request, *parts: str, **query: object) -> str:
    """The path of a page; what is None is left out of the query."""
    return f"{_base(request)}/{'/'.join(quote(part, safe='') for part in parts)}{_query(query)}"


def here(request: web.Request, **changed: object) -> str:
    """The path of this very page, with another query."""
    query: dict[str, object] = {name: value for name, value in request.query.items() if name != "done"}
    return f"{_base(request)}{request.rel_url.raw_path}{_query(query | changed)}"


def _standing(request: web.Request) -> dict[str, object]:
    return {
        "viewer": viewer_of(request),
        "link": partial(link, request),
        "here": partial(here, request),
        "asset": partial(_asset, request),
        "now": request.app[SERVICES].now(),
        "notice": NOTICES.get(request.query.get("done", "")),
        "path": request.path,
    }


def _asset(request: web.Request, name: str) -> str:
    return link(request, "assets", request.app[ASSETS].digest, name)


def _base(request: web.Request) -> str:
    """The path under which a proxy shows us, without a slash at its end."""
    return urlsplit(request.app[SERVICES].config.server.public_url or "").path.rstrip("/")


def _query(values: Mapping[str, object]) -> str:
    given = {name: value for name, value in values.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""
