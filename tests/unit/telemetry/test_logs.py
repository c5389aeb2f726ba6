"""The log: one line per event, in a shape machines read, with nothing secret in it."""

import io
import json
import logging
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, cast
from uuid import UUID

import orjson
import pytest
import structlog

from daemon.config import LogFormat, LogLevel, Secret
from daemon.runtime.queued_stream import QueuedStream
from daemon.telemetry import logs


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_its_name_first() -> None:
    stream = io.StringIO()
    logs.configure(LogLevel.INFO, LogFormat.JSON, stream)
    structlog.get_logger().info("lease.taken", shard=3, owner=UUID(int=1))
    [line] = lines(stream)
    assert list(line) == ["event", "at", "level", "shard", "owner"]
    assert line["event"] == "lease.taken"
    assert line["level"] == "info"
    assert line["owner"] == str(UUID(int=1))
    assert str(line["at"]).endswith("Z")


def test_events_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    logs.configure(LogLevel.WARNING, LogFormat.JSON, stream)
    structlog.get_logger().info("lease.taken")
    logging.getLogger("anything").info("hello")
    assert stream.getvalue() == ""


def test_a_logger_made_before_configuring_follows_it() -> None:
    log = structlog.get_logger()
    stream = io.StringIO()
    logs.configure(LogLevel.INFO, LogFormat.JSON, stream)
    log.info("lease.taken")
    assert lines(stream)[0]["event"] == "lease.taken"


def test_libraries_log_in_the_same_shape() -> None:
    stream = io.StringIO()
    logs.configure(LogLevel.INFO, LogFormat.JSON, stream)
    logging.getLogger("aiohttp.client").warning("something %s", "odd")
    [line] = lines(stream)
    assert (line["event"], line["library"], line["text"]) == ("library.logged", "aiohttp.client", "something odd")
    assert line["level"] == "warning"


def test_requests_are_not_logged_by_aiohttp() -> None:
    stream = io.StringIO()
    logs.configure(LogLevel.DEBUG, LogFormat.JSON, stream)
    logging.getLogger("aiohttp.access").info("GET / 200")
    assert stream.getvalue() == ""


def test_a_secret_shows_as_stars_in_both_formats() -> None:
    for format in LogFormat:
        stream = io.StringIO()
        logs.configure(LogLevel.INFO, format, stream)
        structlog.get_logger().info("token.made", token=Secret("canary"))
        assert "***" in stream.getvalue()
        assert "canary" not in stream.getvalue()


def test_a_traceback_is_in_the_line_and_shows_no_local_variables() -> None:
    for format in LogFormat:
        stream = Terminal()
        logs.configure(LogLevel.INFO, format, stream)
        password = bytes.fromhex("63616e617279").decode()
        try:
            _fail(password)
        except ZeroDivisionError:
            structlog.get_logger().exception("attempt.broke")
        assert "ZeroDivisionError" in stream.getvalue()
        assert "canary" not in stream.getvalue()


def test_the_format_follows_the_stream_unless_chosen() -> None:
    for stream, is_json in ((io.StringIO(), True), (Terminal(), False)):
        logs.configure(LogLevel.INFO, None, stream)
        structlog.get_logger().info("lease.taken")
        assert stream.getvalue().startswith("{") is is_json


def test_a_value_that_json_cannot_have_is_written_as_text() -> None:
    stream = io.StringIO()
    logs.configure(LogLevel.INFO, LogFormat.JSON, stream)
    circle: list[object] = []
    circle.append(circle)
    structlog.get_logger().info("route.odd", half="\ud800", large=1 << 70, circle=circle, small=1)
    [line] = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (line["event"], line["half"], line["large"], line["small"]) == ("route.odd", "\ud800", 1 << 70, 1)


def test_a_library_record_that_cannot_be_formatted_is_a_line_that_says_so() -> None:
    stream = io.StringIO()
    logs.configure(LogLevel.INFO, LogFormat.JSON, stream)
    logging.getLogger("aiohttp.client").warning("%d", "no number")
    [line] = lines(stream)
    assert (line["event"], line["library"], line["text"]) == ("library.unprintable", "aiohttp.client", "%d")


def test_missing_lines_are_told_in_the_shape_of_a_line(tmp_path: Path) -> None:
    for format in LogFormat:
        with (tmp_path / format).open("w") as file:
            stream = QueuedStream(file.fileno(), max_lines=0)
            logs.configure(LogLevel.INFO, format, cast("TextIO", stream))
            text = stream.notice(3, "No space left on device")
            assert text.endswith("\n")
            if format is LogFormat.JSON:
                line = orjson.loads(text)
                assert list(line) == ["event", "at", "level", "lines", "cause"]
                assert (line["event"], line["level"], line["lines"]) == ("log.lines_dropped", "warning", 3)
            else:
                assert "log.lines_dropped" in text


def _fail(password: str) -> None:
    _ = len(password) / 0


# A path that anybody may ask for: it clears the screen, renames the window, forges a line, and hides what follows.
HOSTILE = "/v1/\x1b]0;mine\x07\x1b[2J\x9b31m\x85[info]\u2028forged\u202e\x7f"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("format", LogFormat)
def test_no_value_moves_the_cursor_or_begins_a_line(stream: type[io.StringIO], format: LogFormat) -> None:
    quiet, loud = stream(), stream()
    for out, path in ((quiet, "/v1/x"), (loud, HOSTILE)):
        logs.configure(LogLevel.INFO, format, out)
        structlog.get_logger().info("request.refused", path=path, paths=[path])
        logging.getLogger("library").warning("of %s", path)
        structlog.get_logger().error("request.crashed", path=path, exc_info=ValueError(path))
    assert controls(loud.getvalue()) == controls(quiet.getvalue())
    assert "forged" in loud.getvalue()
    if format is LogFormat.JSON:
        assert lines(loud)[0]["path"] == HOSTILE


def controls(text: str) -> list[str]:
    """What of a text acts on a terminal."""
    return [each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") and each != "\x7f"]
