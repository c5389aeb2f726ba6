"""The attempts of a delivery as its page shows them: what went out, what came back, and the command to send it again.

A page must not become long, and a body may be. So the attempts share a room: the one that is looked at comes first,
then the newer ones before the older; of what has no room left the page has a link.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from daemon.core.delivery.answer import Outcome
from daemon.core.delivery.failure_text import FailureText, failing
from daemon.deliveries import DeliveryDetail, SentRequest
from daemon.web.dashboard.text import Excerpt, escaped_bytes, excerpt_of, json_excerpt
from daemon.web.service import exchanges
from daemon.web.service.exchanges import KeptAnswer
from eventstore.queries.attempts import RecordedExchange

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
class RequestView:
    """`command` takes the body from a file if that is too long to be in it."""

    url: str
    headers: dict[str, str]
    masked: tuple[str, ...]
    body: Excerpt
    body_bytes: int
    command: str
    takes_file: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerView:
    """`encoding` is base64 if the body is no text."""

    head: list[tuple[str, str]]
    body: Excerpt
    encoding: str
    is_truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentView:
    """What went out, None if that cannot be rebuilt, and what came back, None if nothing did."""

    request: RequestView | None
    answer: AnswerView | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """`place` counts from 1 in order of time: numbers of retries by hand may repeat. `share` is the part of the time
    limit that it took, in hundredths. `contents` is None where there was no room.
    """

    place: int
    exchange: RecordedExchange
    failing: FailureText | None
    share: int
    contents: ContentView | None
    is_open: bool

    @property
    def is_delivered(self) -> bool:
        return self.exchange.outcome == Outcome.DELIVERED


def attempts(detail: DeliveryDetail, *, looked_at: int | None, timeout_seconds: float) -> list[AttemptView]:
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
    place: int, exchange: RecordedExchange, contents: ContentView | None, *, timeout_seconds: float, chosen: int
) -> AttemptView:
    return AttemptView(
        place=place,
        exchange=exchange,
        failing=None if exchange.error is None else failing(exchange.error),
        share=max(1, min(100, round(exchange.duration_ms / (timeout_seconds * 10)))),
        contents=contents,
        is_open=place == chosen,
    )


def _contents(detail: DeliveryDetail, order: list[int]) -> dict[int, ContentView]:
    """What is shown of these, as far as there is room; the first of them always is."""
    found: dict[int, ContentView] = {}
    room = ROOM
    for place in order:
        sent = detail.sent[place - 1]
        request = None if sent is None else _request(place, sent)
        kept = exchanges.kept_answer(detail.exchanges[place - 1])
        contents = ContentView(request=request, answer=None if kept is None else _answer(kept))
        room -= _bytes_of(contents)
        if found and room < 0:
            break
        found[place] = contents
    return found


def _request(place: int, sent: SentRequest) -> RequestView:
    headers, body = exchanges.shown_headers(sent), sent.request.body
    shown = json_excerpt(body.decode("utf-8", "replace"), BODY_ROOM)
    command = curl_command(sent.target_url, headers, body) if len(body) <= CURL_ROOM else None
    takes_file = command is None or escaped_bytes(command) > CURL_ROOM
    if command is None or takes_file:
        command = curl_command(sent.target_url, headers, b"", file=file_name(place))
    return RequestView(
        url=sent.target_url,
        headers=headers,
        masked=sent.secret_headers,
        body=shown,
        body_bytes=len(body),
        command=command,
        takes_file=takes_file,
    )


def _answer(kept: KeptAnswer) -> AnswerView:
    text = base64.b64encode(kept.body).decode() if kept.text is None else kept.text
    return AnswerView(
        head=_short(kept.head),
        body=excerpt_of(text, ANSWER_ROOM),
        encoding="base64" if kept.text is None else "text",
        is_truncated=kept.is_truncated,
    )


def _short(head: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers with the beginnings of their values."""
    return [(name, excerpt_of(value, 1024).text) for name, value in head]


def _bytes_of(contents: ContentView) -> int:
    """About how much they take in the page."""
    request, answer = contents.request, contents.answer
    texts = [
        *(() if request is None else (request.body.text, request.command)),
        *(() if answer is None else (answer.body.text,)),
    ]
    heads = [*(() if request is None else request.headers.items()), *(() if answer is None else answer.head)]
    texts += [part for pair in heads for part in pair]
    return _AROUND + sum(escaped_bytes(text) for text in texts) + 40 * len(heads)


# A request as a command for a POSIX shell, to send it again from a terminal.
#
# The body goes as an argument if it can be one: `--data-raw`, because `--data` would take a body that begins with `@`
# for the name of a file. A shell's arguments are text without NUL, and Linux takes at most 128 KiB for one of them. So
# what is no text is written by `printf` in octal and piped to `--data-binary @-`, which changes no byte; and what is
# too long comes from a file.
#

LONGEST_ARGUMENT_BYTES = 100_000

# What curl would expand in a URL, were it not told to leave it.
_GLOB = re.compile(r"[\[\]{}]")

_CONTINUED = " \\\n  "


def curl_command(url: str, headers: Mapping[str, str], body: bytes, *, file: str | None = None) -> str:
    """The command; the body is read from `file` if one is named."""
    text = None if file else _argument(body)
    options = [f"curl {_globoff(url)}{quoted(url)}", *(f"-H {quoted(_header(*each))}" for each in headers.items())]
    if file is not None:
        return _CONTINUED.join([*options, f"--data-binary {quoted('@' + file)}"])
    if text is not None:
        return _CONTINUED.join([*options, f"--data-raw {quoted(text)}"])
    return f"printf {quoted(_octal(body))} | " + _CONTINUED.join([*options, "--data-binary @-"])


def quoted(text: str) -> str:
    """One word of a POSIX shell, whatever is in it but NUL."""
    return "'" + text.replace("'", "'\\''") + "'"


def _argument(body: bytes) -> str | None:
    """The body as an argument; None if it cannot be one."""
    if b"\0" in body or len(body) > LONGEST_ARGUMENT_BYTES:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _globoff(url: str) -> str:
    return "--globoff " if _GLOB.search(url) else ""


def _header(name: str, value: str) -> str:
    """Curl takes `Name:` as the wish to send no such header; an empty one is `Name;`."""
    return f"{name}: {value}" if value.strip() else f"{name};"


def _octal(body: bytes) -> str:
    """A format of printf that gives these bytes: what is not plain is in octal, and so is what printf reads itself."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b"%\\" else f"\\{byte:03o}" for byte in body)
