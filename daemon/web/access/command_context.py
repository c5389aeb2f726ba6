"""The context of a command that a request gives: who commands, why, and whether the request is a repetition."""

from __future__ import annotations

import hashlib
import hmac

from aiohttp import web

from daemon.commands import Context
from daemon.web.access import auth
from daemon.web.forms.request_forms import BODY
from daemon.web.http.problems import Problem
from daemon.web.http.requests.parameters import if_match

MAX_REQUEST_KEY_CHARACTERS = 255


def command_context(request: web.Request, reason: str | None) -> Context:
    """The context of this request. The body must have been read. Raises Problem for an invalid Idempotency-Key.

    An Idempotency-Key identifies one command of a tenant. `request_id` is the hash of tenant and key. `causation_id` is
    a hash of the request: it tells whether a repetition is the same command. It is keyed, because the body may have
    secrets.
    """
    key, if_version = request_key(request), if_match(request)
    if key is None:
        return auth.context(request, reason=reason, if_version=if_version, request_id=None, causation_id=None)
    key_bytes = key.encode()
    request_id = hashlib.sha256(f"{request.match_info['tenant']}\n".encode() + key_bytes)
    path = request.rel_url.raw_path_qs
    command = hmac.new(key_bytes, f"{request.method} {path}\n".encode() + request[BODY], "sha256")
    return auth.context(
        request,
        reason=reason,
        if_version=if_version,
        request_id=request_id.hexdigest(),
        causation_id=command.hexdigest(),
    )


def request_key(request: web.Request) -> str | None:
    """The Idempotency-Key, None if there is none. Raises Problem for an invalid one."""
    key = request.headers.get("Idempotency-Key")
    if key is None or (0 < len(key) <= MAX_REQUEST_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        return key
    raise Problem(400, f"Idempotency-Key must be 1 to {MAX_REQUEST_KEY_CHARACTERS} printable ASCII characters")
