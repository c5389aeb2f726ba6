"""Why a request failed and what to do about it, written for the person who runs the receiver.

The recorded error is an `ErrorName`, which may be followed by `: ` and a detail, or `http_<status>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from daemon.core.delivery.answer import ErrorName
from daemon.core.delivery.tls_fault import TLS_FAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureText:
    """`short` fits into a table row; `cause` and `step` (what to do next) are sentences."""

    short: str
    cause: str
    step: str


def explain_error(error: str) -> FailureText:
    """The text for a recorded error. An unknown error is shown unchanged."""
    name, _, detail = error.partition(": ")
    if name.startswith("http_") and name.removeprefix("http_").isdecimal():
        return _answered(int(name.removeprefix("http_")))
    try:
        known = _WITHOUT_ANSWER[ErrorName(name)]
    except ValueError:
        return FailureText(
            short=error, cause=f"The request failed: {error}.", step="Retry it, and ask support if it recurs."
        )
    if not detail:
        return known
    step = known.step
    if fault := TLS_FAULTS.get(detail):
        detail, step = fault.cause, f"{fault.step[0].upper()}{fault.step[1:]}."
    return FailureText(short=known.short, cause=f"{known.cause.removesuffix('.')}: {detail}.", step=step)


def clause(error: str | None) -> str:
    """What went wrong, as a clause without a full stop: "the receiver answered 500 Internal Server Error"."""
    if error is None:
        return "nothing is known of its cause"
    name = error.partition(": ")[0]
    if name.startswith("http_") and name.removeprefix("http_").isdecimal():
        return f"the receiver {answered(int(name.removeprefix('http_')))}"
    cause = explain_error(error).cause.removesuffix(".")
    return f"{cause[0].lower()}{cause[1:]}"


def answered(status: int) -> str:
    """That somebody answered with a status, as the predicate of a clause."""
    return f"answered {status_text(status)}"


def error_code(error: str) -> str:
    """What programs compare of a recorded error: `tls_error` without the sentence behind it. A `render_error` keeps its
    reason, since only the route's own expressions tell it.
    """
    name = error.partition(": ")[0]
    return name if name == ErrorName.TLS_ERROR else error


def status_text(status: int) -> str:
    """A status with its reason phrase, such as `200 OK`; the number alone if the status is not registered."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _answered(status: int) -> FailureText:
    cause, step = _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, _UNKNOWN_STATUS)
    return FailureText(short=status_text(status), cause=cause.format(status=status), step=step)


_BY_STATUS: Mapping[int, tuple[str, str]] = {
    400: (
        "The receiver answered 400: it did not understand the request.",
        "Compare the body below with what your code expects; a payload transform may have changed it.",
    ),
    401: (
        "The receiver answered 401: it wants credentials.",
        "Add the header that it expects to the webhook, or check the signature with the present key.",
    ),
    403: (
        "The receiver answered 403: it refuses the request.",
        (
            "Check that a firewall or bot protection lets us through, and that the signature is checked with the "
            "present key."
        ),
    ),
    404: (
        "The receiver answered 404: there is nothing at this address.",
        "Check the path of the webhook's target URL.",
    ),
    405: ("The receiver answered 405: it takes no POST there.", "Accept POST at the webhook's target URL."),
    408: ("The receiver answered 408: it gave up waiting for the request.", "Look into the receiver's load."),
    410: (
        "The receiver answered 410: it is gone for good, so the webhook was disabled.",
        "If that is not so, answer 200 and enable the webhook again.",
    ),
    413: (
        "The receiver answered 413: the body is too large for it.",
        "Raise its limit, or choose less in the payload.",
    ),
    429: (
        "The receiver answered 429: too many requests.",
        "Set a rate limit for the webhook, or answer with Retry-After: we wait as it says, up to a limit.",
    ),
    503: (
        "The receiver answered 503: it is not available now.",
        "Nothing to do if that passes: we try again. Retry-After in the answer is honoured, up to a limit.",
    ),
}

_BY_CLASS: Mapping[int, tuple[str, str]] = {
    1: ("The receiver answered {status} and nothing after it.", "Answer 200 once you have stored the event."),
    3: (
        "The receiver answered {status}, a redirect, and redirects are not followed.",
        "Enter the address that it leads to as the webhook's target URL.",
    ),
    4: (
        "The receiver answered {status}: it refuses the request.",
        "Its answer below may say why; look into your own log.",
    ),
    5: (
        "The receiver answered {status}: an error on its side.",
        "Look for this moment in your own log. Answer 200 first and do long work afterwards.",
    ),
}

_UNKNOWN_STATUS = (
    "The receiver answered {status}, which is no status of HTTP.",
    "Answer 200 once you have stored the event.",
)

_WITHOUT_ANSWER: Mapping[ErrorName, FailureText] = {
    ErrorName.DNS_ERROR: FailureText(
        short="Host not found",
        cause="The name of the receiver's host could not be resolved.",
        step="Check the host in the target URL, and that its DNS record exists.",
    ),
    ErrorName.CONNECT_REFUSED: FailureText(
        short="Connection refused",
        cause="Nothing accepts connections at the receiver's address.",
        step="Check that your server is running and listens on the port in the target URL.",
    ),
    ErrorName.CONNECT_TIMEOUT: FailureText(
        short="No connection in time",
        cause="The receiver's address did not respond when we tried to connect.",
        step="Check that a firewall lets us through to the port in the target URL.",
    ),
    ErrorName.CONNECTION_RESET: FailureText(
        short="Connection closed",
        cause="The receiver closed the connection before it had answered.",
        step="Look for a crash or a restart of your server at this moment, or for a proxy before it.",
    ),
    ErrorName.TLS_ERROR: FailureText(
        short="TLS failed",
        cause="No trusted TLS connection could be made to the receiver.",
        step="Check that its certificate is valid, not expired, made for this host, and sent with the whole chain.",
    ),
    ErrorName.TIMEOUT: FailureText(
        short="No answer in time",
        cause="The receiver did not answer within the time limit.",
        step="Answer 200 as soon as the event is stored, and do the work afterwards.",
    ),
    ErrorName.EGRESS_DENIED: FailureText(
        short="Address not allowed",
        cause="The target leads to an address that webhooks must not reach, such as a private network.",
        step="Use a public address as target URL.",
    ),
    ErrorName.PROXY_ERROR: FailureText(
        short="Our proxy failed",
        cause="The request did not get through our own outgoing proxy.",
        step="Nothing to do on your side: we try again. Ask support if it lasts.",
    ),
    ErrorName.PROTOCOL_ERROR: FailureText(
        short="Not an HTTP answer",
        cause="What came back is not valid HTTP/1.1, or its head is longer than 64 KiB or 1,000 lines.",
        step="Check that the port in the target URL is the one of your web server.",
    ),
    ErrorName.RESPONSE_TOO_LARGE: FailureText(
        short="Answer too large",
        cause="The receiver's answer was larger than we read.",
        step="Answer 200 with a short body, or none.",
    ),
    ErrorName.RENDER_ERROR: FailureText(
        short="Body not made",
        cause="The body could not be made by the webhook's payload settings.",
        step="Try the filter and the transform in the preview when you edit the webhook.",
    ),
    ErrorName.INTERNAL_ERROR: FailureText(
        short="Our own error",
        cause="Something went wrong on our side.",
        step="Nothing to do on your side: we try again. Ask support if it lasts.",
    ),
}
