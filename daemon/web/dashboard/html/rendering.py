"""Renders templates, with what each of them may use: links, assets, the time, a notice, and the viewer.

Undefined names are errors, everything is escaped, and no page may load, frame or send anything elsewhere. The `Viewer`
decides which buttons a page shows, and nothing more: `daemon.web.access.auth` checks each request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from urllib.parse import quote, urlencode, urlsplit

from aiohttp import web
from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined, TemplateNotFound

from daemon.web.access import browsers, sessions
from daemon.web.access.auth import CALLER, may
from daemon.web.dashboard import assets
from daemon.web.dashboard.assets import ASSETS
from daemon.web.dashboard.html import page_links, template_filters
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors {}; base-uri 'none'"
)
_HEADERS: web.AppKey[Mapping[str, str]] = web.AppKey("headers")

# The notice at the head of a page after a command, by the value of `?done=`.
NOTICES: Mapping[str, str] = {
    "created": "The webhook is created and active: events from now on are sent to it.",
    "created_disabled": "The webhook is created, and disabled: enable it when your receiver is ready.",
    "edited": "The changes are saved. They apply to everything that is sent from now on.",
    "unchanged": "Nothing was different, so nothing was changed.",
    "deleted": "The webhook is deleted. Its history stays in Activity.",
    "token_revoked": "The token is revoked: nothing it is shown to lets it in any more.",
    "type_added": "The event type is in the catalogue. Merchants can subscribe to it.",
    "type_saved": "The event type is saved.",
    "type_removed": "The event type is no longer in the catalogue.",
    "types_replaced": "The catalogue was replaced by your list.",
    "replay_cancelled": "The replay is cancelled: what was not sent yet stays as it was.",
    "disabled": "The webhook is disabled. Nothing is sent to it from now on.",
    "revoked": "The old key is revoked: only the present one signs from now on.",
    "no_old_key": "There was no old key any more, so nothing had to be revoked.",
    "rotated": "The verification key is rotated. Put the new one in place within 24 hours.",
    "retried": "You have had it sent again: its answer appears below.",
    "retried_under_way": "Its request was under way already, or about to be made: none was added.",
    "retried_in_line": "Nothing was sent: it waits for its first attempt, and keeps its turn.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who sees a page. `tenant` is the caller's tenant, else that of the page; None on the pages of operators. One who
    `sees_operations` sees some of these, one who `is_operator` all.
    """

    tenant: str | None = None
    is_known: bool = False
    is_operator: bool = False
    sees_operations: bool = False
    may_manage: bool = False
    has_session: bool = False


class Templates(BaseLoader):
    """The templates without the indentation of their lines: a list of fifty rows is 7 kB smaller. What a template
    inserts stays as it is.

    All are read at once: between an upgrade's installation and the restart the files are those of another version.
    """

    def __init__(self) -> None:
        package, environment = PackageLoader("daemon.web.dashboard"), Environment(autoescape=True)
        self._files = {name: package.get_source(environment, name)[:2] for name in package.list_templates()}

    def get_source(self, _environment: Environment, template: str) -> tuple[str, str, None]:
        if template not in self._files:
            raise TemplateNotFound(template)
        source, path = self._files[template]
        return re.sub(r"^[ \t]+", "", source, flags=re.MULTILINE), path, None


@cache
def _environment() -> Environment:
    """The templates. One for the process, since compiling a page takes up to a quarter of a second."""
    environment = Environment(
        loader=Templates(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(template_filters.FILTERS)
    return environment


def set_up(application: web.Application) -> None:
    """Lets an application render templates, which are read now."""
    _environment()
    dashboard = application[SERVICES].config.dashboard
    application[ASSETS] = assets.load(dashboard)
    application[_HEADERS] = {
        "Content-Security-Policy": _POLICY.format(" ".join(dashboard.frame_ancestors) or "'none'"),
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


def render(
    request: web.Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: object,
) -> web.Response:
    """A response with a page, or with a part of one: a template that does not extend another.

    Page.js asks for a part again and again, and says which one it has: it gets no body if that has not changed.
    """
    text = text_of(request, template, **context)
    common: Mapping[str, str] = request.app[_HEADERS]
    if request.headers.get("X-Fragment") == "1" and request.method == "GET":
        etag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
        headers = dict(headers or {}) | {"ETag": etag}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={**common, **headers})
    return web.Response(text=text, status=status, headers={**common, **(headers or {})}, content_type="text/html")


def text_of(request: web.Request, template: str, **context: object) -> str:
    """A part of a page as text."""
    return _environment().get_template(template).render(_common_context(request), **context)


def viewer_of(request: web.Request) -> Viewer:
    """The viewer of a request; a default `Viewer` until the caller is authenticated."""
    caller = request.get(CALLER)
    if caller is None:
        return Viewer()
    return Viewer(
        tenant=caller.tenant or request.match_info.get("tenant"),
        is_known=True,
        is_operator=may(caller.scope, Access.ADMIN),
        sees_operations=may(caller.scope, Access.OPERATIONS),
        may_manage=may(caller.scope, Access.MANAGE),
        has_session=caller.session is not None,
    )


def redirect(request: web.Request, *parts: str, **query: str | int | None) -> web.Response:
    """A redirect to another page by GET. `done` selects a notice."""
    return web.Response(status=303, headers={"Location": link(request, *parts, **query)})


def link(request: web.Request, *parts: str, **query: object) -> str:
    """The path of a page; query parameters that are None are left out."""
    return f"{_base(request)}/{'/'.join(quote(part, safe='') for part in parts)}{_query(query)}"


def here(request: web.Request, **changed: object) -> str:
    """The path of the current page with a changed query; None removes a parameter. On another page of its list what
    belongs to this one is left out.
    """
    left_out = ("done", "saved", *(("live", "open", "trail") if "after" in changed else ()))
    query: dict[str, object] = {name: value for name, value in request.query.items() if name not in left_out}
    return f"{_base(request)}{request.rel_url.raw_path}{_query(query | changed)}"


def _common_context(request: web.Request) -> dict[str, object]:
    dashboard = request.app[SERVICES].config.dashboard
    return_url = sessions.return_url(request)
    return {
        "brand": dashboard.name,
        "logo": request.app[ASSETS].logo,
        "accent": request.app[ASSETS].accent,
        "return_url": return_url,
        "return_host": None if return_url is None else urlsplit(return_url).netloc,
        "is_framed": bool(dashboard.frame_ancestors) and browsers.is_framed(request.headers),
        "viewer": viewer_of(request),
        "link": partial(link, request),
        "here": partial(here, request),
        "page_links": partial(page_links.of, request.query, partial(here, request)),
        "asset": partial(_asset, request),
        "now": request.app[SERVICES].now(),
        "notice": NOTICES.get(request.query.get("done", "")),
        "path": request.path,
    }


def _asset(request: web.Request, name: str) -> str:
    return link(request, "assets", request.app[ASSETS].digest, name)


def _base(request: web.Request) -> str:
    """The path of the public URL, under which a proxy serves the dashboard, without a slash at its end."""
    return urlsplit(request.app[SERVICES].config.server.public_url or "").path.rstrip("/")


def _query(values: Mapping[str, object]) -> str:
    given = {name: value for name, value in values.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""
