"""A problem as a page: what went wrong, and what to do next, in words for people.

A form whose session has ended meanwhile is kept on the page, and can be sent again after a new sign-in in another tab.
It is kept only if one of our own pages has sent it: what another site has put into a form is nobody's typing.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from daemon.web.access import browsers, sessions
from daemon.web.dashboard import form_data
from daemon.web.dashboard.form_data import FormData
from daemon.web.dashboard.html import rendering
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES

TITLES: Mapping[int, str] = {
    400: "That could not be read",
    401: "Please sign in",
    403: "That is not allowed here",
    404: "There is nothing here",
    405: "That cannot be done here",
    409: "That is not possible now",
    410: "This link no longer works",
    412: "Somebody was faster",
    413: "That is too long",
    422: "Something is not right yet",
    429: "One moment, please",
    503: "The database does not answer",
}

_SEND_AGAIN = "If you were filling in a form, sign in in another tab, and then send it again."

NEXT_STEPS: Mapping[int, str] = {
    400: "Go back, load the page again, and try once more.",
    401: "Open your webhooks from your shop’s settings again, or ask the person who gave you access for a new link. "
    + _SEND_AGAIN,
    403: "If another site led you here, open the page by its own address, and try again there. If your access does not "
    "reach so far, ask the person who gave it to you for a sign-in link that does.",
    404: "It may have been deleted, or the address is not complete.",
    405: "Go back, and use the links and buttons of the page.",
    410: "A sign-in link works once, and not for long. Open your webhooks from your shop’s settings again, or ask "
    "the person who gave you the link for a new one.",
    412: "Go back, reload the page to see what changed, and try again.",
    413: "Go back, and make what you typed shorter. Nothing was changed.",
    415: "Go back, load the page again, and try once more.",
    421: "Open it by the name localhost or the address 127.0.0.1, on the machine that it runs on. To have it answer to "
    "other names, the operator of Hookledger sets an admin token.",
    429: "Try again a little later. Nothing was changed.",
    500: "Try again. If it happens once more, give support that number.",
    503: "Nothing is lost: events that were accepted are stored, and are sent later. Try again in a few seconds.",
}

# What also helps: who runs Hookledger, and may begin at the front page; who looks for a webhook, or for an event.
_MAKE_A_LINK = "The operator of Hookledger makes a sign-in link with “hookledger login-link”."
_DELETED_WEBHOOKS = "Deleted webhooks are still listed under Activity."
_LIST_OF_EVENTS = "The events that are kept are listed under Events."
_FRONT, _OPERATORS = "/", "/operator"

# A form that was refused with one of these may be accepted when the same form is sent again.
_RETRYABLE = frozenset({401, 429, 503})

ENDED_TITLE = "Your session has ended"
# A longer form is not kept: a page has at most 100 kB.
MAX_KEPT_BYTES = 48 * 1024
# One with all of the types that a webhook may name has half as many. Anybody may send one without having signed in.
MAX_KEPT_FIELDS = 500


async def show(request: web.Request, problem: Problem, *, is_part: bool) -> web.Response:
    """The whole page, or only its sentences if a part of a page was requested."""
    is_sign_in = problem.status == HTTPStatus.UNAUTHORIZED
    has_ended = is_sign_in and sessions.had_session(request)
    # Too much at once is told like too many requests: nothing is broken.
    kind = HTTPStatus.TOO_MANY_REQUESTS if problem.is_busy else problem.status
    return rendering.render(
        request,
        "error_part.html" if is_part else "error.html",
        status=problem.status,
        headers=problem.headers,
        problem=problem,
        sentence=problem.detail if _is_operators(request) else problem.for_people,
        title=ENDED_TITLE if has_ended else TITLES.get(kind, "Something went wrong"),
        next_step=_next_step(request, kind),
        has_ended=has_ended,
        kept_form=await _kept_form(request) if is_sign_in and not is_part else None,
        is_retryable=request.method == "POST" and problem.status in _RETRYABLE,
    )


def _is_operators(request: web.Request) -> bool:
    return request.path == _OPERATORS or request.path.startswith(f"{_OPERATORS}/")


def _next_step(request: web.Request, status: int) -> str | None:
    """What to do next on this page, None if nothing is known."""
    step = NEXT_STEPS.get(status)
    match status:
        case HTTPStatus.UNAUTHORIZED if _is_operators(request):
            return f"Open a new sign-in link. {_MAKE_A_LINK} {_SEND_AGAIN}"
        case HTTPStatus.UNAUTHORIZED if request.path == _FRONT:
            return f"{step} {_MAKE_A_LINK}"
        case HTTPStatus.NOT_FOUND if "route" in request.match_info:
            return f"{step} {_DELETED_WEBHOOKS}"
        case HTTPStatus.NOT_FOUND if "event" in request.match_info:
            return f"{step} {_LIST_OF_EVENTS}"
        case _:
            return step


async def _kept_form(request: web.Request) -> FormData | None:
    """The form that was sent, to be sent again; None if it is none of ours, or too long."""
    own_url = request.app[SERVICES].config.server.url()
    is_short = request.content_length is not None and request.content_length <= MAX_KEPT_BYTES
    if request.method != "POST" or not is_short or not browsers.is_from_our_page(request.headers, own_url):
        return None
    try:
        return await form_data.read(request, max_fields=MAX_KEPT_FIELDS)
    except (Problem, HttpProcessingError, web.RequestPayloadError, ConnectionError):
        return None
