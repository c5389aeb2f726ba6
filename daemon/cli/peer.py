"""HTTP requests of the command line to a running daemon: its projection, and whether it is alive.

They ignore the proxy settings of the environment: both questions are about the process at that very address.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead

import orjson

from daemon.cli.console.failures import CliError

TIMEOUT_SECONDS = 5.0
# The digest of a hundred thousand routes takes a busy daemon some seconds.
PROJECTION_SECONDS = 60.0
# One that comes byte by byte, each in time, would else never be given up.
WHOLE_SECONDS = 600.0
_ANSWER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveProjection:
    """What a daemon reports of its live projection; the digest is that of `route_state.digest`."""

    position: int
    state_sha256: str


def fetch_projection(url: str, token: str | None) -> LiveProjection:
    """GET /v1/projection of the daemon at `url`. Raises CliError if the answer is anything else."""
    body = get(f"{url.rstrip('/')}/v1/projection", token, seconds=PROJECTION_SECONDS)
    try:
        document = orjson.loads(body)
        return LiveProjection(position=int(document["position"]), state_sha256=str(document["state_sha256"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        message = f"{url} answers, but not as a Hookledger daemon does"
        raise CliError(message, hint="give the address of its API, like http://127.0.0.1:8080") from None


def get(
    url: str,
    token: str | None = None,
    *,
    seconds: float = TIMEOUT_SECONDS,
    whole_seconds: float = WHOLE_SECONDS,
    most_bytes: int = _ANSWER_BYTES,
    follows: bool = False,
) -> bytes:
    """The body of a 200 answer. Raises CliError for anything else, for a body of more than `most_bytes`, and for one of
    which no byte comes for `seconds`, or that has not come after `whole_seconds`. It `follows` where the answer leads
    only if asked: a sign-in page in front of a daemon is no daemon, and must not get the token.
    """
    until = time.monotonic() + whole_seconds
    if not url.startswith(("http://", "https://")):
        raise CliError(f"{url} is no URL", hint="give one like http://127.0.0.1:8080")
    request = urllib.request.Request(url)  # noqa: S310 - the scheme is checked above
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), *(() if follows else (_Staying(),)))
    try:
        with direct.open(request, timeout=seconds) as answer:
            body = _read(answer, most_bytes + 1, until)
    except urllib.error.HTTPError as error:
        raise CliError(f"{url} answers {error.code}", hint=_hint(error)) from error
    except (OSError, HTTPException, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        message = f"{url} does not answer: {getattr(cause, 'strerror', None) or cause}"
        raise CliError(message, hint="see whether the daemon runs, and where it listens") from error
    if len(body) > most_bytes:
        raise CliError(
            f"{url} answers with more than {most_bytes >> 20} MiB", hint="see whether it is the right address"
        )
    return body


class _Staying(urllib.request.HTTPRedirectHandler):
    """Makes an error of an answer that leads elsewhere. The library would send the token there."""

    def redirect_request(self, *_args: object, **_more: object) -> None:
        """None: there is no other request."""


def _hint(error: urllib.error.HTTPError) -> str:
    place = error.headers.get("Location")
    match error.code:
        case 401 | 403:
            return "pass --token or set HOOKLEDGER_TOKEN"
        case code if 300 <= code < 400 and place is not None:
            return f"it leads to {place}: give the address of the daemon itself"
        case _:
            return ""


def _read(answer: HTTPResponse, most_bytes: int, until: float) -> bytes:
    """The body, or so many bytes of it. Raises TimeoutError."""
    body = bytearray()
    while len(body) < most_bytes and (chunk := answer.read1(min(_CHUNK_BYTES, most_bytes - len(body)))):
        body += chunk
        if time.monotonic() > until:
            raise TimeoutError("it takes too long to send all of its answer")
    if answer.length and len(body) < most_bytes:
        raise IncompleteRead(bytes(body), answer.length)
    return bytes(body)
