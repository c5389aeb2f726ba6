"""The feed of a daemon, read over HTTP for as long as somebody listens, through lost connections and restarts.

Each answer has the cursor of the next question, so what was published while the connection was lost comes afterwards,
once. What only a person can mend ends it: a token that is not valid, a tenant that is not there. Everything else is
tried again, and told once. The proxy settings of the environment are ignored, as in `daemon.cli.peer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self
from urllib.parse import quote
from uuid import UUID

import aiohttp
import orjson

from daemon.cli.console.failures import CliError, system_cause
from daemon.core.events import raw_json
from daemon.core.routing.index import patterns_of
from daemon.core.routing.route import PayloadOptions, snapshot_selection
from daemon.core.webhook.payload import PayloadEvent
from daemon.core.webhook.request import RequestOptions

# How long the daemon waits with an answer, and how much longer the answer may be under way.
WAIT_SECONDS = 20
ANSWER_SECONDS = 20.0
CONNECT_SECONDS = 10.0
PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
MAX_RETRY_AFTER_SECONDS = 30.0
PAGE_EVENTS = 100
# The page of a daemon has a megabyte, and the event with which it is full, which may be as long as its operator allows.
MAX_ANSWER_BYTES = 256 << 20

# The head of a request has a limit: more types than fit into so many characters are chosen here, out of all.
TYPES_CHARACTERS = 4000

_SENDER = ("signing_header", "standard_webhooks", "user_agent", "max_body_bytes")
_TELL_ACCESS = "pass --token or set HOOKLEDGER_TOKEN: the token must be allowed to read this tenant"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEvent:
    """An event of the feed. `test_route` is the only route that a test event is for."""

    payload_event: PayloadEvent
    backfill: bool
    test_route: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRoute:
    """What a route asks for, as far as its owner may read it: the values of its own headers are secret."""

    id: UUID
    event_types: tuple[str, ...]
    payload: PayloadOptions
    ordered: bool
    header_names: tuple[str, ...]


class _TryAgain(Exception):
    """No answer, or one that a later question will not get. `str()` says what the daemon does."""

    def __init__(self, cause: str, *, after_seconds: float | None = None) -> None:
        super().__init__(cause)
        self.after_seconds = after_seconds


class _CursorGone(Exception):
    """The log has no such cursor any more."""


class RemoteFeed:
    """The feed of one tenant. `tell` gets a sentence when the connection is lost, and when it is back."""

    def __init__(self, url: str, tenant: str, *, token: str | None, tell: Callable[[str], None]) -> None:
        self._url = url.rstrip("/")
        self._tenant = f"/v1/tenants/{quote(tenant, safe='')}"
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._tell = tell
        self._cursor = ""

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS + ANSWER_SECONDS, connect=CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def begin(self) -> RequestOptions:
        """Begins after all that was read, and returns how webhooks are made there. Raises CliError."""
        try:
            answer = await self._ask(f"{self._tenant}/feed")
        except _TryAgain as error:
            hint = "see whether the daemon runs, and where it listens: --url"
            if error.after_seconds is not None:
                hint = f"try again in {error.after_seconds:.0f} s"
            raise CliError(f"{self._url} {error}", hint=hint) from error
        try:
            body = orjson.loads(answer)
            self._cursor, sender = str(body["next"]), body["sender"]
            return RequestOptions(**{name: sender[name] for name in _SENDER})
        except (ValueError, KeyError, TypeError):
            raise self._no_daemon() from None

    async def route(self, route_id: UUID) -> RemoteRoute:
        """A route of the tenant. Raises CliError."""
        try:
            body = orjson.loads(await self._ask(f"{self._tenant}/routes/{route_id}"))
            payload = body["payload"]
            return RemoteRoute(
                id=route_id,
                event_types=tuple(body["event_types"]),
                payload=PayloadOptions(
                    snapshot=snapshot_selection(payload["snapshot"]),
                    filter=payload["filter"],
                    transform=payload["transform"],
                ),
                ordered=bool(body["ordered"]),
                header_names=tuple(body["headers"]),
            )
        except _TryAgain as error:
            raise CliError(f"{self._url} {error}", hint="try again") from error
        except (ValueError, KeyError, TypeError):
            raise self._no_daemon() from None

    async def events(self, types: Sequence[str]) -> AsyncGenerator[FeedEvent, None]:
        """The events of these types from `begin` on, for ever. Raises CliError for what trying again does not mend."""
        lost, failures = False, 0
        while True:
            try:
                found = await self._next(types)
            except _TryAgain as error:
                if failures == 1:  # a daemon that is restarted is away for a moment: that is no news
                    lost = True
                    self._tell(f"trying again, since {self._url} {error}")
                pause = PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)]
                await asyncio.sleep(max(pause, error.after_seconds or 0.0))
                failures += 1
                continue
            except _CursorGone:
                self._tell(
                    "the log no longer has what came while the connection was lost: going on with what comes now"
                )
                self._cursor = ""
                continue
            if lost:
                self._tell(f"{self._url} answers again")
            lost, failures = False, 0
            for event in found:
                yield event

    async def _next(self, types: Sequence[str]) -> list[FeedEvent]:
        is_short = len(",".join(types)) <= TYPES_CHARACTERS
        chosen = f"&types={quote(','.join(types), safe=',*.')}" if is_short else ""
        after = f"&cursor={self._cursor}&wait={WAIT_SECONDS}" if self._cursor else ""
        answer = (await self._ask(f"{self._tenant}/feed?limit={PAGE_EVENTS}{chosen}{after}")).decode()
        try:
            parts = dict(raw_json.members(answer))
            events = [_event(text) for text in raw_json.elements(parts["items"])]
            self._cursor = str(orjson.loads(parts["next"]))
        except (ValueError, KeyError, TypeError):
            raise self._no_daemon() from None
        return events if is_short else [each for each in events if _fits(each.payload_event.event_type, types)]

    async def _ask(self, path: str) -> bytes:
        """The body of a 200 answer."""
        try:
            async with self._session.get(self._url + path, allow_redirects=False) as response:
                body = await _read(response)
        except TimeoutError:
            raise _TryAgain("does not answer in time") from None
        except aiohttp.InvalidURL:
            raise CliError(f"{self._url} is no URL", hint="give one like http://127.0.0.1:8080") from None
        except (aiohttp.ClientError, OSError) as error:
            system = getattr(error, "os_error", error)
            cause = system_cause(system) if isinstance(system, OSError) else str(error) or type(error).__name__
            raise _TryAgain(f"does not answer: {cause}") from error
        match response.status:
            case 200:
                return body
            case 401 | 403:
                raise CliError(f"{self._url} answers {response.status}: {_detail(body)}", hint=_TELL_ACCESS)
            case 410 if "&cursor=" in path:
                raise _CursorGone
            case 429 | 500 | 502 | 503 | 504:
                after = _seconds(response.headers.get("Retry-After"))
                raise _TryAgain(f"answers {response.status}: {_detail(body)}", after_seconds=after)
            case status:
                raise CliError(f"{self._url} answers {status}: {_detail(body)}", hint="see --url, --tenant and --route")

    def _no_daemon(self) -> CliError:
        return CliError(
            f"{self._url} answers, but not as a Hookledger daemon does",
            hint="give the address of its API, like http://127.0.0.1:8080",
        )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body. Raises CliError for one without an end."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            message = f"{response.url.origin()} answers with more than {MAX_ANSWER_BYTES >> 20} MiB"
            raise CliError(message, hint="see whether it is the right address")
    return bytes(body)


def _event(text: str) -> FeedEvent:
    """An event, its parts as they were published. Raises ValueError, KeyError, TypeError."""
    parts = dict(raw_json.members(text))
    plain = {name: orjson.loads(parts[name]) for name in ("id", "type", "event_time", "backfill", "test_route", "hops")}
    return FeedEvent(
        payload_event=PayloadEvent(
            event_id=plain["id"],
            event_type=plain["type"],
            created=datetime.fromisoformat(plain["event_time"]),
            data=parts["data"].encode(),
            context=parts["context"].encode(),
            snapshot=parts["snapshot"].encode(),
            hops=plain["hops"],
        ),
        backfill=plain["backfill"],
        test_route=None if plain["test_route"] is None else UUID(plain["test_route"]),
    )


def _fits(event_type: str, types: Sequence[str]) -> bool:
    return not frozenset(types).isdisjoint(patterns_of(event_type))


def _detail(body: bytes) -> str:
    """What a problem says, else nothing of the body: it may be somebody's page."""
    try:
        document = orjson.loads(body)
        errors = [f"{each['field']}: {each['message']}" for each in document.get("errors", [])]
        return "; ".join([str(document["detail"]), *errors])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "this is not what a Hookledger daemon says"


def _seconds(text: str | None) -> float | None:
    return min(float(text), MAX_RETRY_AFTER_SECONDS) if text is not None and text.isdecimal() else None
