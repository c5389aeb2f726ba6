"""The attempts of a delivery as its page shows them: the request, the answer, and a command to send the request again.

A page must stay short, and a body may be long. So the attempts share a budget of bytes: the selected attempt comes
first, then the newer ones before the older ones. The page has a link to each attempt that does not fit.

The command is one for a POSIX shell. The body is an argument if it can be one: of `--data-raw`, because `--data` would
take a body that begins with `@` for the name of a file. A shell's arguments are text without NUL, and Linux limits
their length. So `printf` writes a body that is not text in octal, piped to `--data-binary @-`, which changes no byte;
and a body that is too long is read from a file.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass

from daemon.core.delivery.answer import Outcome
from daemon.core.sentences.failures import FailureText, explain_error
from daemon.deliveries import DeliveryDetail, SentRequest
from daemon.web.dashboard.html.text import Excerpt, escaped_bytes, excerpt_of, json_excerpt
from daemon.web.service.deliveries import exchanges
from daemon.web.service.deliveries.exchanges import KeptAnswer
from eventstore.queries.deliveries.attempts import RecordedExchange

# Attempts on one page; it has links to the others.
MAX_ATTEMPTS = 30

# Bytes of the page: for all attempts together, and for the longest parts of one.
MAX_BYTES = 56_000
MAX_BODY_BYTES = 16 * 1024
MAX_COMMAND_BYTES = 20 * 1024
MAX_ANSWER_BYTES = 10 * 1024
MAX_HEADER_BYTES = 1024
# The markup around the bodies and headers of an attempt, and around one header.
_MARKUP_BYTES = 2_000
_HEADER_MARKUP_BYTES = 40

# Linux takes at most 128 KiB for one argument.
LONGEST_ARGUMENT_BYTES = 100_000

# Characters that curl expands in a URL unless it gets --globoff.
_GLOB = re.compile(r"[\[\]{}]")

_NEXT_LINE = " \\\n  "


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestView:
    """A request as it was sent. `command` reads the body from a file if `takes_file`: the body is too long for it."""

    url: str
    headers: dict[str, str]
    masked: tuple[str, ...]
    body: Excerpt
    body_bytes: int
    command: str
    takes_file: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerView:
    """An answer as it was kept. `reading` is what stands behind the label of its body: how it was read."""

    headers: list[tuple[str, str]]
    body: Excerpt
    reading: str
    is_truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentView:
    """A request, None if it cannot be rebuilt, and its answer, None if there was none."""

    request: RequestView | None
    answer: AnswerView | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """An attempt. `position` counts from 1 in order of time; `exchange.number` may repeat after a manual retry.
    `share` is the part of the timeout that it took, in per cent. `contents` is None if it does not fit into the page.
    """

    position: int
    exchange: RecordedExchange
    failure: FailureText | None
    share: int
    contents: ContentView | None
    is_open: bool

    @property
    def is_delivered(self) -> bool:
        return self.exchange.outcome == Outcome.DELIVERED


def attempts(detail: DeliveryDetail, *, selected: int | None, timeout_seconds: float) -> list[AttemptView]:
    """At most MAX_ATTEMPTS around the selected position, the newest first; the last attempt is selected by default."""
    count = len(detail.exchanges)
    open_at = count if selected is None else max(1, min(count, selected))
    newest = min(count, open_at + MAX_ATTEMPTS // 2) if open_at <= count - MAX_ATTEMPTS else count
    positions = range(newest, max(0, newest - MAX_ATTEMPTS), -1)
    contents = _contents(detail, sorted(positions, key=lambda position: position != open_at))
    return [
        _attempt(
            position,
            detail.exchanges[position - 1],
            contents.get(position),
            timeout_seconds=timeout_seconds,
            is_open=position == open_at,
        )
        for position in positions
    ]


def file_name(position: int) -> str:
    """The name under which a body is downloaded."""
    return f"body-{position}.json"


def curl_command(url: str, headers: Mapping[str, str], body: bytes, *, file: str | None = None) -> str:
    """The command that sends a request; it reads the body from `file` if one is given."""
    text = None if file else _argument(body)
    options = [f"curl {_globoff(url)}{quoted(url)}", *(f"-H {quoted(_header(*each))}" for each in headers.items())]
    if file is not None:
        return _NEXT_LINE.join([*options, f"--data-binary {quoted('@' + file)}"])
    if text is not None:
        return _NEXT_LINE.join([*options, f"--data-raw {quoted(text)}"])
    return f"printf {quoted(_octal(body))} | " + _NEXT_LINE.join([*options, "--data-binary @-"])


def quoted(text: str) -> str:
    """The text as one word of a POSIX shell; it must not contain NUL."""
    return "'" + text.replace("'", "'\\''") + "'"


def _attempt(
    position: int, exchange: RecordedExchange, contents: ContentView | None, *, timeout_seconds: float, is_open: bool
) -> AttemptView:
    return AttemptView(
        position=position,
        exchange=exchange,
        failure=None if exchange.error is None else explain_error(exchange.error),
        share=max(1, min(100, round(exchange.duration_ms / (timeout_seconds * 10)))),
        contents=contents,
        is_open=is_open,
    )


def _contents(detail: DeliveryDetail, order: list[int]) -> dict[int, ContentView]:
    """The contents of attempts by position, in this order as far as they fit; the first is always included."""
    shown: dict[int, ContentView] = {}
    budget = MAX_BYTES
    for position in order:
        sent = detail.sent[position - 1]
        request = None if sent is None else _request(position, sent)
        kept = exchanges.kept_answer(detail.exchanges[position - 1])
        contents = ContentView(request=request, answer=None if kept is None else _answer(kept))
        budget -= _size(contents)
        if shown and budget < 0:
            break
        shown[position] = contents
    return shown


def _request(position: int, sent: SentRequest) -> RequestView:
    headers, body = exchanges.shown_headers(sent), sent.request.body
    command = curl_command(sent.target_url, headers, body) if len(body) <= MAX_COMMAND_BYTES else None
    takes_file = command is None or escaped_bytes(command) > MAX_COMMAND_BYTES
    if command is None or takes_file:
        command = curl_command(sent.target_url, headers, b"", file=file_name(position))
    return RequestView(
        url=sent.target_url,
        headers=headers,
        masked=sent.secret_headers,
        body=json_excerpt(body.decode("utf-8", "replace"), MAX_BODY_BYTES),
        body_bytes=len(body),
        command=command,
        takes_file=takes_file,
    )


def _answer(kept: KeptAnswer) -> AnswerView:
    text, reading = _readable(kept)
    return AnswerView(
        headers=_shortened(kept.head),
        body=excerpt_of(text, MAX_ANSWER_BYTES),
        reading=reading,
        is_truncated=kept.is_truncated,
    )


def _readable(kept: KeptAnswer) -> tuple[str, str]:
    """The body of an answer as text, and how it became that."""
    if kept.text is not None:
        return kept.text, ""
    declared = exchanges.declared_text(kept)
    if declared is not None:
        text, charset = declared
        return text, f", read as {charset}"
    return base64.b64encode(kept.body).decode(), ", base64 because it is no text"


def _shortened(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers with the beginnings of their values."""
    return [(name, excerpt_of(value, MAX_HEADER_BYTES).text) for name, value in headers]


def _size(contents: ContentView) -> int:
    """About how many bytes the contents of an attempt take in the page."""
    request, answer = contents.request, contents.answer
    texts = [
        *(() if request is None else (request.body.text, request.command)),
        *(() if answer is None else (answer.body.text,)),
    ]
    headers = [*(() if request is None else request.headers.items()), *(() if answer is None else answer.headers)]
    texts += [part for header in headers for part in header]
    return _MARKUP_BYTES + sum(escaped_bytes(text) for text in texts) + _HEADER_MARKUP_BYTES * len(headers)


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
    """Curl leaves out a header that is given as `Name:`; an empty header is given as `Name;`."""
    return f"{name}: {value}" if value.strip() else f"{name};"


def _octal(body: bytes) -> str:
    """A format of printf that writes these bytes: printable ASCII, and all else in octal, with what printf expands. A
    dash may begin an option, so it is not printable here.
    """
    return "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b"%\\-" else f"\\{byte:03o}" for byte in body)
