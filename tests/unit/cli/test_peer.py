"""What the command line asks another process for comes whole, in time, and within a size, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from daemon.cli import peer
from daemon.cli.console.failures import CliError


@contextmanager
def answering(answer: Callable[[socket.socket], None], requests: list[bytes] | None = None) -> Iterator[str]:
    """A server that gives one answer; `requests` gets what was asked."""
    requests = [] if requests is None else requests
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    requests.append(connection.recv(65536))
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # nobody may have come
            thread.join(10)


def _whole(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)


def _dripping(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(100):
        connection.sendall(b"x")
        time.sleep(0.05)


def _cut(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")


def test_an_answer_is_read_whole() -> None:
    with answering(_whole) as url:
        assert peer.get(url) == b"x" * 200_000


def test_an_answer_that_is_too_large_is_given_up() -> None:
    with answering(_whole) as url, pytest.raises(CliError, match="answers with more than"):
        peer.get(url, most_bytes=100_000)


def test_an_answer_that_comes_byte_by_byte_is_given_up() -> None:
    begin = time.monotonic()
    with answering(_dripping) as url, pytest.raises(CliError, match="too long to send all of its answer"):
        peer.get(url, whole_seconds=0.3)
    assert time.monotonic() - begin < 20


def test_an_answer_that_is_cut_off_is_none() -> None:
    with answering(_cut) as url, pytest.raises(CliError, match="does not answer: IncompleteRead"):
        peer.get(url)


def _to(place: str) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {place}\r\n\r\n".encode())


def test_a_daemon_that_leads_elsewhere_is_not_followed_and_no_token_gets_there() -> None:
    asked: list[bytes] = []
    with (
        answering(_whole, asked) as elsewhere,
        answering(_to(f"{elsewhere}/signin")) as url,
        pytest.raises(CliError, match=f"{url}/v1/projection answers 302") as refused,
    ):
        peer.fetch_projection(url, "hl_admin_secret")
    assert refused.value.report.hint == f"it leads to {elsewhere}/signin: give the address of the daemon itself"
    assert not asked


def test_what_is_no_daemons_may_lie_elsewhere() -> None:
    asked: list[bytes] = []
    with answering(_whole, asked) as elsewhere, answering(_to(elsewhere)) as url:
        assert peer.get(url, follows=True) == b"x" * 200_000
    assert len(asked) == 1
