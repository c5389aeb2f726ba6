"""The texts that endpoints share in the OpenAPI document: path parameters, headers of commands, errors, credentials."""

from __future__ import annotations

from daemon.core.drafts.scope import BOUND, UNBOUND, Scope, ScopeKind
from daemon.core.events import trace_context
from daemon.core.events.event import MAX_TEXT_CHARACTERS, TENANT_PATTERN
from daemon.web.access import auth
from daemon.web.http.endpoints import Access
from daemon.web.openapi.schemas import Schema

DESCRIPTION = """\
Hookledger delivers the events of a platform to its merchants' webhooks, and can explain for each event why it was or
was not sent.

**Errors** are `application/problem+json`: `detail` is a sentence, and `errors` has everything that is wrong with the
fields of the request. Another tenant's ids and unknown ids are both 404. Unknown fields and query parameters are
refused. HEAD is GET without the body; a method that a path does not take is 405 with `Allow`.

**Lists** have at most 200 items: `next` is the cursor of the following page, null if there is none. Items that are
removed between two pages shift nothing. The lists of deliveries and of events are answered whole, without pages, with
`Accept: application/x-ndjson` or `text/csv`. An export that was cut off has no proper end of the answer.

**Commands** take an `Idempotency-Key`: a command that is repeated with the same key is executed once. Most take a
`reason`, which the history shows. Test events, tokens and login links are made once more by each request. Routes have a
`version`, which is their ETag; with `If-Match` a command is refused if the version has changed.

**Times** are RFC 3339 in UTC with microseconds.
"""

# The content of a list that is answered whole.
EXPORTS: Schema = {
    "application/x-ndjson": {"schema": {"type": "string", "description": "all items of the list, one on each line"}},
    "text/csv": {
        "schema": {
            "type": "string",
            "description": "all items of the list, after a line with the names of the columns (RFC 4180). A text that "
            "a spreadsheet would take for a formula has a single quote before it.",
        }
    },
}

CREDENTIALS: Schema = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API token. A daemon without `server.admin_token` listens on loopback only, and takes "
        "requests without one as the administrator's.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "hookledger",
        "description": "The dashboard's session, begun by a login link; `__Host-hookledger` where `server.public_url` "
        "is https. Commands must come from the dashboard's own pages.",
    },
}

# A name in a path has the same meaning in every path.
PATH_PARAMETERS: dict[str, Schema] = {
    "tenant": {
        "description": "The merchant's id.",
        "schema": {"type": "string", "pattern": f"^{TENANT_PATTERN}$"},
        "example": "acme",
    },
    "route": {
        "description": "The route's id.",
        "schema": {"type": "string", "format": "uuid"},
        "example": "018f6d3e-7c1a-4a5b-9d2e-3f4a5b6c7d8e",
    },
    "seal": {
        "description": "The number of a seal.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 42,
    },
    "delivery": {
        "description": "The delivery's id, which receivers get as `webhook-id`.",
        "schema": {"type": "string", "format": "uuid"},
        "example": "1b4e28ba-2fa1-51d2-883f-0016d3cca427",
    },
    "token": {
        "description": "The token's id.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
        "example": "5f2c9a0e41b7",
    },
    "link": {
        "description": "The secret of the link.",
        "schema": {"type": "string", "minLength": 1},
        "example": "kYx3Yv0m2Qe8",
    },
    "replay": {
        "description": "The replay's id.",
        "schema": {"type": "string", "format": "uuid"},
        "example": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    },
    "audit": {
        "description": "The audit's id.",
        "schema": {"type": "string", "format": "uuid"},
        "example": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    },
    "event": {
        "description": "The event's id.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_CHARACTERS},
        "example": "evt_1",
    },
}

_KEY = "Idempotency-Key"
_VERSION = "If-Match"

HEADERS: dict[str, Schema] = {
    _KEY: {
        "name": _KEY,
        "in": "header",
        "description": "Identifies this command, or what is published without an `id`: repeated with the same key, it "
        "is done once.",
        "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
        "example": "5f2c9a0e",
    },
    _VERSION: {
        "name": _VERSION,
        "in": "header",
        "description": "The version that the route must have, as in its ETag; `*` for any.",
        "schema": {"type": "string", "pattern": r'^(\*|(W/)?"[0-9]{1,9}"|[0-9]{1,9})$'},
        "example": '"3"',
    },
    trace_context.HEADER: {
        "name": trace_context.HEADER,
        "in": "header",
        "description": "The trace that this belongs to (W3C Trace Context): the attempts of its deliveries go on with "
        "it, if the installation traces.",
        "schema": {"type": "string"},
        "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    },
    trace_context.STATE_HEADER: {
        "name": trace_context.STATE_HEADER,
        "in": "header",
        "description": "What other systems add to the trace.",
        "schema": {"type": "string"},
        "example": "vendor=value",
    },
}

# Status → name and sentence.
REFUSALS: dict[int, tuple[str, str]] = {
    400: ("BadRequest", "The request is not valid HTTP, a header has no meaning, or the body is not JSON."),
    401: ("Unauthorized", "A token is needed, or the one given is not valid."),
    403: ("Forbidden", "The token does not give access to this."),
    404: ("NotFound", "It does not exist, or it belongs to another tenant."),
    408: ("RequestTimeout", "The body did not arrive in time."),
    409: ("Conflict", "The present state does not allow it, or the Idempotency-Key belongs to another command."),
    410: ("Gone", "It existed, and is gone."),
    412: ("PreconditionFailed", "The route does not have the version in If-Match: read it again."),
    413: ("ContentTooLarge", "The body is larger than allowed; nothing was stored."),
    415: ("UnsupportedMediaType", "This endpoint does not accept the Content-Type of the body."),
    421: ("MisdirectedRequest", "A daemon without admin token answers to loopback names only."),
    422: ("UnprocessableContent", "Some fields or query parameters are not valid: `errors` names all of them."),
    429: (
        "TooManyRequests",
        "Too many of these for one tenant, or wrong tokens from one address: wait as long as Retry-After says.",
    ),
    500: ("InternalServerError", "An unexpected error; the answer has its number in the log."),
    503: (
        "ServiceUnavailable",
        "The database does not answer, or too much is published or queried at once: repeat it, with the same id.",
    ),
    508: ("LoopDetected", "Routes deliver to this endpoint in a circle; nothing was stored."),
}

REFUSAL_HEADERS: dict[int, Schema] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "Which credentials are needed."}},
    429: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}},
    503: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}},
}

ANSWER_HEADERS: dict[str, Schema] = {
    "ETag": {"schema": {"type": "string", "example": '"3"'}, "description": "The route's version, for If-Match."},
    "Location": {"schema": {"type": "string"}, "description": "The path of what was created."},
}

_SCOPES = [
    *(Scope(kind=kind) for kind in ScopeKind if kind not in BOUND),
    *(Scope(kind=kind, tenant="<id>") for kind in ScopeKind if kind not in UNBOUND),
]


def access(required: Access) -> str:
    """Which scopes have access, as a sentence."""
    if required is Access.OPEN:
        return "Needs no token."
    names = sorted(str(scope) for scope in _SCOPES if auth.may(scope, required))
    return f"Scopes: {', '.join(f'`{name}`' for name in names)}."
