"""The attempts of a delivery as its page shows them: what went out, what came back, and the command to send it again.

A page must not become long, and a body may be. So the attempts share a room: the one that is looked at comes first,
then the newer ones before the older; of what has no room left the page has a link.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from daemon.core.delivery import Outcome
from daemon.core.failures import Failing, failing
from daemon.deliveries import Detail, Sent
from daemon.web import exchanges
from daemon.web.dashboard.logs import curl, excerpts
from daemon.web.dashboard.logs.excerpts import Excerpt
from daemon.web.exchanges import Kept
from eventstore.outcomes import Exchange

# At once; older ones are behind a link.
MOST_ATTEMPTS = 30

# Bytes in the page.
ROOM = 56_000
BODY_ROOM = 16 * 1024
CURL_ROOM = 20 * 1024
ANSWER_ROOM = 10 * 1024
# Beside bodies and headers, for what stands around them.
_AROUND = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`command` takes the body from a file if that is too long to be in it."""

    url: str
    headers: dict[str, str]
    masked: tuple[str, ...]
    body: Excerpt
    body_bytes: int
    command: str
    takes_file: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`encoding` is base64 if the body is no text."""

    head: list[tuple[str, str]]
    body: Excerpt
    encoding: str
    is_truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What went out, None if that cannot be rebuilt, and what came back, None if nothing did."""

    request: Request | None
    answer: Answer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """`place` counts from 1 in order of time: numbers of retries by hand may repeat. `share` is the part of the time
    limit that it took, in hundredths. `contents` is None where there was no room.
    """

    place: int
    exchange: Exchange
    failing: Failing | None
    share: int
    contents: Contents | None
    is_open: bool

    @property
    def is_delivered(self) -> bool:
        return self.exchange.outcome == Outcome.DELIVERED


def attempts(detail: Detail, *, looked_at: int | None, timeout_seconds: float) -> list[Attempt]:
    """The attempts up to the one that is looked at and some after it, the newest first; by itself that is the last."""
    count = len(detail.exchanges)
    chosen = count if looked_at is None else max(1, min(count, looked_at))
    newest = min(count, chosen + MOST_ATTEMPTS // 2) if chosen <= count - MOST_ATTEMPTS else count
    places = range(newest, max(0, newest - MOST_ATTEMPTS), -1)
    contents = _contents(detail, sorted(places, key=lambda place: place != chosen))
    return [
        _attempt(
            place, detail.exchanges[place - 1], contents.get(place), timeout_seconds=timeout_seconds, chosen=chosen
        )
        for place in places
    ]


def file_name(place: int) -> str:
    """The name under which a body is downloaded."""
    return f"body-{place}.json"


def _attempt(
    place: int, exchange: Exchange, contents: Contents | None, *, timeout_seconds: float, chosen: int
) -> Attempt:
    return Attempt(
        place=place,
        exchange=exchange,
        failing=None if exchange.error is None else failing(exchange.error),
        share=max(1, min(100, round(exchange.duration_ms / (timeout_seconds * 10)))),
        contents=contents,
        is_open=place == chosen,
    )


def _contents(detail: Detail, order: list[int]) -> dict[int, Contents]:
    """What is shown of these, as far as there is room; the first of them always is."""
    found: dict[int, Contents] = {}
    room = ROOM
    for place in order:
        sent = detail.sent[place - 1]
        request = None if sent is None else _request(place, sent)
        kept = exchanges.kept_answer(detail.exchanges[place - 1])
        contents = Contents(request=request, answer=None if kept is None else _answer(kept))
        room -= _bytes_of(contents)
        if found and room < 0:
            break
        found[place] = contents
    return found


def _request(place: int, sent: Sent) -> Request:
    headers, body = exchanges.shown_headers(sent), sent.request.body
    shown = excerpts.laid_out(body.decode("utf-8", "replace"), BODY_ROOM)
    command = curl.command(sent.target_url, headers, body) if len(body) <= CURL_ROOM else None
    takes_file = command is None or excerpts.room_of(command) > CURL_ROOM
    if command is None or takes_file:
        command = curl.command(sent.target_url, headers, b"", file=file_name(place))
    return Request(
        url=sent.target_url,
        headers=headers,
        masked=sent.secret_headers,
        body=shown,
        body_bytes=len(body),
        command=command,
        takes_file=takes_file,
    )


def _answer(kept: Kept) -> Answer:
    text = base64.b64encode(kept.body).decode() if kept.text is None else kept.text
    return Answer(
        head=_short(kept.head),
        body=excerpts.beginning(text, ANSWER_ROOM),
        encoding="base64" if kept.text is None else "text",
        is_truncated=kept.is_truncated,
    )


def _short(head: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers with the beginnings of their values."""
    return [(name, excerpts.beginning(value, 1024).text) for name, value in head]


def _bytes_of(contents: Contents) -> int:
    """About how much they take in the page."""
    request, answer = contents.request, contents.answer
    texts = [
        *(() if request is None else (request.body.text, request.command)),
        *(() if answer is None else (answer.body.text,)),
    ]
    heads = [*(() if request is None else request.headers.items()), *(() if answer is None else answer.head)]
    texts += [part for pair in heads for part in pair]
    return _AROUND + sum(excerpts.room_of(text) for text in texts) + 40 * len(heads)
