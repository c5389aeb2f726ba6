"""The context of a command as a request gives it: who asks, why, and whether it was asked before."""

from __future__ import annotations

import hashlib
import hmac

from aiohttp import web

from daemon.commands import Context
from daemon.web.access import auth
from daemon.web.forms.request_forms import BODY
from daemon.web.http.problems import Problem

MAX_REQUEST_KEY_CHARACTERS = 255


def command_context(request: web.Request, reason: str | None) -> Context:
    """Who commands, and why. The body must have been read.

    An Idempotency-Key stands for one command of a tenant: it is recognised by its hash, and whether it is the same
    command by a hash of the request. That one is keyed, because the body may hold secrets.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return auth.context(request, reason=reason)
    if not (0 < len(key) <= MAX_REQUEST_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise Problem(400, f"Idempotency-Key must be 1 to {MAX_REQUEST_KEY_CHARACTERS} printable ASCII characters")
    secret = key.encode()
    request_id = hashlib.sha256(f"{request.match_info['tenant']}\n".encode() + secret)
    command = hmac.new(secret, f"{request.method} {request.rel_url.raw_path_qs}\n".encode() + request[BODY], "sha256")
    return auth.context(request, reason=reason, request_id=request_id.hexdigest(), causation_id=command.hexdigest())
