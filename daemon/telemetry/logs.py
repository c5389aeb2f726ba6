"""Logging by structlog: one line per event, as JSON for machines or as columns for a person at a terminal.

The one thing to know: an event is a constant name with values as keywords, `log.info("lease.taken", shard=3)`. Records
of the standard library's loggers (aiohttp, asyncio) get the same shape, as `library.logged` with their text. Secrets
have their own type and show as ***, and tracebacks contain no local variables.

A log call neither waits nor fails: the daemon's stream is a queue (`daemon.runtime.queued_stream`), and a value that
cannot be written as JSON is written as text.
"""

import io
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from daemon.config import LogFormat, LogLevel
from daemon.core import texts
from daemon.runtime import queued_stream
from daemon.runtime.queued_stream import QueuedStream

# Loggers that would write a line for each request or each step of the event loop, beside our own canonical lines.
_QUIETER: Final = {"aiohttp.access": logging.WARNING, "asyncio": logging.WARNING, "aiohttp.server": logging.ERROR}


def configure_daemon(level: LogLevel, format: LogFormat | None) -> None:
    """Log to stderr from now on, and let nothing that this process prints wait for a reader or fail for lack of one."""
    queued_stream.install()
    configure(level, format, sys.stderr)


def configure(level: LogLevel, format: LogFormat | None, stream: TextIO) -> None:
    """Log to `stream` from now on, in every thread; `format` None is json, or console if `stream` is a terminal."""
    if format is None:
        format = LogFormat.CONSOLE if stream.isatty() else LogFormat.JSON
    number = logging.getLevelNamesMapping()[level.name]
    shared: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, _add_time]
    structlog.configure(
        processors=[*shared, *_render(format, is_terminal=stream.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,  # a logger created at import time must follow a later `configure`
    )
    if isinstance(stream, QueuedStream):
        stream.notice = _Notice([*shared, *_render(format, is_terminal=stream.isatty())])
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_library],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_render(format, is_terminal=stream.isatty()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=number, force=True)
    for name, least in _QUIETER.items():
        logging.getLogger(name).setLevel(max(least, number))
    logging.captureWarnings(capture=True)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes the records of libraries. One whose text cannot be made is a line that says so, not a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        structlog.get_logger().warning("library.unprintable", library=record.name, text=str(record.msg))


class _Notice:
    """The line that says how many lines are missing, made as the others are."""

    def __init__(self, processors: list[Processor]) -> None:
        self._processors = processors

    def __call__(self, lines: int, cause: str) -> str:
        made: Any = {"event": "log.lines_dropped", "lines": lines, "cause": cause}
        for processor in self._processors:
            made = processor(None, "warning", made)
        return str(made) + "\n"  # the last one makes a text


def _render(format: LogFormat, *, is_terminal: bool) -> list[Processor]:
    match format:
        case LogFormat.JSON:
            return [structlog.processors.format_exc_info, _to_json]
        case LogFormat.CONSOLE:
            columns = structlog.dev.ConsoleRenderer(
                colors=is_terminal, exception_formatter=_write_traceback, pad_event_to=28
            )
            return [_quote, columns]


class _Quoted:
    """A text of which the renderer of columns writes what Python would."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return repr(self._text)


def _quote(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A path that a stranger asked for must not move the cursor of who reads it. The renderer quotes blanks alone."""
    return {
        key: _Quoted(value) if isinstance(value, str) and not value.isprintable() else value
        for key, value in event.items()
    }


def _write_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    """The plain traceback, of which no line does anything else."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write("\n".join(texts.on_one_line(line) for line in text.getvalue().split("\n")))


def _add_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["at"] = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return event


def _name_library(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Moves the text and the logger of a library's record into values, since the text is no event name."""
    record: logging.LogRecord = event["_record"]
    event["library"], event["text"], event["event"] = record.name, event["event"], "library.logged"
    return event


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """The event's name first, then time and level, then the values in the order they were given."""
    first = {key: event.pop(key) for key in ("event", "at", "level") if key in event}
    ordered = {**first, **event}
    try:
        text = orjson.dumps(ordered, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z).decode()
        return text if text.isascii() else texts.escaped_in_json(text)
    except TypeError:  # half a surrogate pair, a number beyond 64 bits, a circle
        return json.dumps({str(key): value if isinstance(value, int) else str(value) for key, value in ordered.items()})
