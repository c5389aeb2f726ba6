"""Templates, and what each of them may use: links, moments, assets, and who looks.

Undefined names are errors, everything is escaped, and no page may load, frame or send anything elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote, urlencode, urlsplit

import aiohttp_jinja2
from aiohttp import web
from jinja2 import PackageLoader, StrictUndefined

from daemon.web.access.auth import CALLER, may
from daemon.web.dashboard import assets, template_filters
from daemon.web.dashboard.assets import ASSETS
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES

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
        filters=template_filters.FILTERS,
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


# Who looks at a page, as far as the page shows it: what he may do decides which buttons there are.
#
# What he really may do is decided at the door (daemon.web.access.auth), whatever a page shows.
#


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """`tenant` is whose page this is, None on those of the operator: for whoever stands for one it is that one."""

    tenant: str | None = None
    is_known: bool = False
    is_operator: bool = False
    may_manage: bool = False
    has_session: bool = False


def viewer_of(request: web.Request) -> Viewer:
    """Nobody in particular, as long as it is not known who asks."""
    caller = request.get(CALLER)
    if caller is None:
        return Viewer()
    return Viewer(
        tenant=caller.tenant or request.match_info.get("tenant"),
        is_known=True,
        is_operator=may(caller.scope, Access.ADMIN),
        may_manage=may(caller.scope, Access.MANAGE),
        has_session=caller.session is not None,
    )


# What a page says at its head after something was done: the sentence that `?done=` names, and no other.

NOTICES: Mapping[str, str] = {
    "created": "The webhook is created and active: events from now on are sent to it.",
    "created_disabled": "The webhook is created, and disabled: enable it when your receiver is ready.",
    "edited": "The changes are saved. What is sent from now on is sent by them.",
    "unchanged": "Nothing was different, so nothing was changed.",
    "deleted": "The webhook is deleted. Its history stays in Activity.",
    "token_revoked": "The token is revoked: nothing it is shown to lets it in any more.",
    "type_added": "The event type is in the catalogue. Merchants can subscribe to it.",
    "type_saved": "The event type is saved.",
    "type_removed": "The event type is no longer in the catalogue.",
    "types_replaced": "The catalogue is the list that you gave.",
    "replay_cancelled": "The replay is cancelled: what was not sent yet stays as it was.",
    "disabled": "The webhook is disabled. Nothing is sent to it from now on.",
    "revoked": "The old key is revoked: only the present one signs from now on.",
    "no_old_key": "There was no old key any more, so nothing had to be revoked.",
    "rotated": "The key is rotated. Put the new one in place within 24 hours.",
    "retried": "It is in line to be sent again now. Refresh in a moment to see the answer.",
}
