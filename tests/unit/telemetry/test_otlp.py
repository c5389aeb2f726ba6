"""What a collector answers costs the daemon a few KiB and seconds, whatever it is; and only 2xx takes spans."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from daemon.core.events.trace_context import TraceContext
from daemon.telemetry import otlp
from daemon.telemetry.otlp import OtlpExporter
from daemon.telemetry.spans import FinishedSpan, SpanKind

SPAN = FinishedSpan(
    name="deliver",
    kind=SpanKind.CLIENT,
    context=TraceContext(1, 1, True),
    parent=None,
    linked=None,
    began_ns=1,
    ended_ns=2,
    attributes={},
)

# What a collector does with a connection on which a request has come.
Answer = Callable[[socket.socket], None]


@contextmanager
def collector(answer: Answer) -> Iterator[OtlpExporter]:
    """An exporter to a collector that answers so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_serve, args=(listening, answer), daemon=True)
        thread.start()
        exporter = OtlpExporter(f"http://127.0.0.1:{listening.getsockname()[1]}")
        try:
            yield exporter
        finally:
            exporter.close()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(30)
    assert not thread.is_alive()


def _serve(listening: socket.socket, answer: Answer) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(30)
            try:
                while _request(connection):
                    answer(connection)
            except OSError:
                continue


def _request(connection: socket.socket) -> bytes:
    """A whole request, empty at the end of the connection."""
    data = b""
    while (begun := connection.recv(1 << 16)) or data:
        data += begun
        head, has_all, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if has_all and length is not None and len(body) >= int(length[1]):
            return data
    return b""


def says(head: str, body: bytes = b"") -> Answer:
    return lambda connection: connection.sendall(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)


@pytest.mark.parametrize(
    "answer",
    [
        says("200 OK\r\nContent-Length: 0"),
        says("200 OK\r\nContent-Length: 2", b"\n\x00"),
        says("200 OK\r\nTransfer-Encoding: chunked", b"2\r\n\n\x00\r\n0\r\n\r\n"),
        says("202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 21", b'{"partialSuccess":{}}'),
    ],
)
def test_spans_are_taken_by_any_2xx_on_one_connection(answer: Answer) -> None:
    connections: list[socket.socket] = []

    def noted(connection: socket.socket) -> None:
        connections.append(connection)
        answer(connection)

    with collector(noted) as exporter:
        assert [exporter.export([SPAN]) for _ in range(3)] == [None, None, None]
    assert len(connections) == 3
    assert len(set(map(id, connections))) == 1


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "304 Not Modified", "308 Permanent Redirect"])
def test_an_answer_that_leads_elsewhere_takes_no_spans(status: str) -> None:
    asked: list[bytes] = []

    def elsewhere(connection: socket.socket) -> None:
        asked.append(b"asked")
        says(f"{status}\r\nLocation: /elsewhere\r\nContent-Length: 0")(connection)

    with collector(elsewhere) as exporter:
        cause = exporter.export([SPAN])
    assert cause is not None
    assert f"/v1/traces does not take spans: it answers {status[:3]}" in cause
    assert len(asked) == 1


@pytest.mark.parametrize("status", ["200 OK", "302 Found\r\nLocation: /", "400 Bad Request", "503 Service Unavailable"])
@pytest.mark.parametrize("head", ["", "\r\nContent-Length: 999999999", "\r\nTransfer-Encoding: chunked"])
def test_no_more_than_a_little_of_an_answer_is_read(status: str, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "TIMEOUT_SECONDS", 1)
    sent = [0]
    chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"

    def endless(connection: socket.socket) -> None:
        says(f"{status}{head}")(connection)
        while sent[0] < 64 << 20:  # more than all buffers on the way take
            connection.sendall(chunk)
            sent[0] += len(chunk)

    with collector(endless) as exporter:
        cause = exporter.export([SPAN])
    assert (cause is None) == (status == "200 OK")
    assert sent[0] < 64 << 20


def test_an_answer_that_comes_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "ANSWER_SECONDS", 0.2)
    gone = threading.Event()

    def dripping(connection: socket.socket) -> None:
        says("200 OK")(connection)
        try:
            while not gone.wait(0.001):
                connection.sendall(b"x")
        except OSError:
            gone.set()
            raise

    with collector(dripping) as exporter:
        began_at = time.monotonic()
        assert exporter.export([SPAN]) is None
        assert time.monotonic() - began_at < 20
        assert gone.wait(30)


def test_an_answer_is_not_unpacked() -> None:
    with collector(says("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4", b"nope")) as exporter:
        assert exporter.export([SPAN]) is None
