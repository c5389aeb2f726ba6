"""A form that is sent twice is carried out once: it has an id, made when it was shown."""

from __future__ import annotations

import hashlib
import secrets

from aiohttp import web

from daemon.web.dashboard.typed import Typed

FIELD = "once"


def new_id() -> str:
    return secrets.token_urlsafe(16)


def request_id(request: web.Request, form: Typed) -> str | None:
    """What the command is known by, for pages.context; None if the form has no id."""
    given = form.one(FIELD)
    text = f"{request.match_info['tenant']}\n{request.rel_url.raw_path}\n{given}"
    return hashlib.sha256(text.encode()).hexdigest() if given else None
