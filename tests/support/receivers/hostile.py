"""Receivers that misbehave, over raw TCP: each behaviour is a function that gets a connection.

The one thing to know: a receiver counts its connections, requests and sent bytes, and signals when the peer closed a
connection. So tests wait for states and never for time. The delays in here are the misbehaviour itself.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

DRIP_SECONDS = 0.05
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Peer:
    """One accepted connection."""

    def __init__(self, receiver: HostileReceiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._receiver = receiver
        self._reader = reader
        self._writer = writer

    async def request(self) -> bytes:
        """Reads one whole request. Raises IncompleteReadError if the peer closed the connection instead."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        request = head + await self._reader.readexactly(length)
        self._receiver.requests.append(request)
        return request

    async def write(self, text: bytes) -> None:
        self._writer.write(text)
        await self._writer.drain()
        self._receiver.sent_bytes += len(text)

    async def repeat(self, text: bytes) -> None:
        """Writes `text` until the peer closes the connection."""
        while True:
            await self.write(text)
            await asyncio.sleep(0)  # over TLS, writing to a peer that is gone neither waits nor raises

    async def drip(self, text: bytes) -> None:
        while True:
            await self.write(text)
            await asyncio.sleep(DRIP_SECONDS)

    async def hung_up(self) -> None:
        """Returns when the peer has closed the connection. Ignores what it sends until then."""
        while await self._reader.read(65536):
            pass

    async def tunnel(self, port: int) -> None:
        """Accepts a CONNECT and passes the bytes on in both directions."""
        await self._reader.readuntil(b"\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await self.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(self._reader, writer))
                group.create_task(_pass_on(reader, self._writer))
        finally:
            writer.close()

    def stop_reading(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport reads as well

    def reset(self) -> None:
        """RST instead of FIN."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()


Behaviour = Callable[[Peer], Awaitable[None]]


class HostileReceiver:
    """A server on loopback that runs `behaviour` on every connection; an async context manager."""

    def __init__(self, behaviour: Behaviour, *, tls: ssl.SSLContext | None = None) -> None:
        self._behaviour = behaviour
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.requests: list[bytes] = []
        self.sent_bytes = 0
        self.ended = asyncio.Semaphore(0)
        """Released once for every connection that has ended."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=1 << 20)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, path: str = "/hook", *, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._behaviour(Peer(self, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError, ExceptionGroup):
            pass  # the peer closed the connection, or the test is over
        finally:
            writer.transport.abort() if self._tls else writer.close()
            self._tasks.discard(task)
            self.ended.release()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
    writer.close()


async def polite(peer: Peer) -> None:
    """Answers every request on the connection with 200."""
    while True:
        await peer.request()
        await peer.write(OK)


def tunnels_to(receiver: HostileReceiver) -> Behaviour:
    """A proxy that leads every CONNECT to one receiver."""

    async def behaviour(peer: Peer) -> None:
        await peer.tunnel(receiver.port)

    return behaviour


def answers(text: bytes) -> Behaviour:
    """Reads one request, writes `text`, and waits until the peer closes the connection."""

    async def behaviour(peer: Peer) -> None:
        await peer.request()
        await peer.write(text)
        await peer.hung_up()

    return behaviour


def answers_and_closes(text: bytes) -> Behaviour:
    async def behaviour(peer: Peer) -> None:
        await peer.request()
        await peer.write(text)

    return behaviour


def answers_and_resets(text: bytes) -> Behaviour:
    async def behaviour(peer: Peer) -> None:
        await peer.request()
        if text:
            await peer.write(text)
        peer.reset()

    return behaviour


def floods(start: bytes, flood: bytes) -> Behaviour:
    async def behaviour(peer: Peer) -> None:
        await peer.request()
        await peer.write(start)
        await peer.repeat(flood)

    return behaviour


def drips(start: bytes, drop: bytes) -> Behaviour:
    async def behaviour(peer: Peer) -> None:
        await peer.request()
        await peer.write(start)
        await peer.drip(drop)

    return behaviour


async def silent(peer: Peer) -> None:
    await peer.hung_up()


def answers_in_pieces(*pieces: bytes) -> Behaviour:
    """Each piece in a segment of its own."""

    async def behaviour(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.write(piece)
            await asyncio.sleep(0)
        await peer.hung_up()

    return behaviour


async def answers_early(peer: Peer) -> None:
    await peer.write(OK)
    await peer.hung_up()


async def close_on_accept(peer: Peer) -> None:
    pass


async def always_cookies(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")


def _head(status: str, *headers: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers, "")).encode()


_EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
_SCRIPT = b"<script>alert(1)</script>"
BEHAVIOURS: dict[str, Behaviour] = {
    "endless_body": floods(_head("200 OK", "Content-Length: 99999999999"), b"x" * 65536),
    "gzip_bomb": floods(
        _head("200 OK", "Content-Encoding: gzip", "Content-Length: 99999999999"), gzip.compress(bytes(50_000_000))
    ),
    "endless_headers": floods(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 1024 + b"\r\n"),
    "endless_trailers": floods(CHUNKED + b"2\r\nok\r\n0\r\n", b"X-A: " + b"a" * 1024 + b"\r\n"),
    "slowloris_headers": drips(b"HTTP/1.1 200 OK\r\n", b"X-A: a\r\n"),
    "silent": silent,
    "tls_stall": silent,
    "flood_103": floods(b"", _EARLY_HINTS * 100),
    "flood_chunk_extension": floods(CHUNKED + b"2;", b"a=" + b"b" * 4000 + b";"),
    "redirect_307": answers(_head("307 Temporary Redirect", "Location: http://localhost/", "Content-Length: 0")),
    "switching_101": answers(_head("101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket")),
    "cl_plus_te": answers(_head("200 OK", "Content-Length: 2", "Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\n\r\n"),
    "duplicate_cl": answers(_head("200 OK", "Content-Length: 2", "Content-Length: 3") + b"ok"),
    "status_999": answers(_head("999 Whatever", "Content-Length: 0")),
    "set_cookie": always_cookies,
    "reset_mid_body": answers_and_resets(b"HTTP/1.1 200 OK\r\n"),
    "early_close_after_status": answers_and_closes(_head("200 OK", "Content-Length: 10")),
    "retry_after_year": answers(_head("503 Busy", "Retry-After: 31536000", "Content-Length: 0")),
    "retry_after_negative": answers(_head("429 Slow", "Retry-After: -5", "Content-Length: 0")),
    "body_with_html_script": answers(_head("200 OK", f"Content-Length: {len(_SCRIPT)}") + _SCRIPT),
    "flood_100": floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 200),
    "endless_chunks_of_one_byte": floods(CHUNKED, b"1\r\nx\r\n" * 1000),
    "slow_body": drips(_head("200 OK", "Content-Length: 1000"), b"x"),
    "silent_body": answers(_head("200 OK", "Content-Length: 10")),
    "reset_after_headers": answers_and_resets(_head("200 OK", "Content-Length: 10")),
    "early_close_500": answers_and_closes(_head("500 Oops", "Content-Length: 10") + b"half"),
    "early_close_in_chunk": answers_and_closes(CHUNKED + b"a\r\nhalf"),
    "close_on_accept": close_on_accept,
    "close_after_request": answers_and_closes(b""),
    "reset_after_request": answers_and_resets(b""),
    "half_status_line": answers_and_closes(b"HTTP/1.1 20"),
    "not_http": answers(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "http_2_preface": answers(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
    "bad_chunk_size": answers(CHUNKED + b"zz\r\nok\r\n"),
    "negative_content_length": answers(_head("200 OK", "Content-Length: -1")),
    "huge_content_length": answers(_head("200 OK", "Content-Length: 99999999999999999999999")),
    "endless_status_line": floods(b"HTTP/1.1 200 ", b"O" * 4096),
    "endless_header_line": floods(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 4096),
    "header_without_colon": answers(_head("200 OK", "Nonsense", "Content-Length: 0")),
    "nul_in_header": answers(_head("200 OK", "X-A: a\0b", "Content-Length: 0")),
    "body_until_close": answers_and_closes(_head("200 OK") + b"until the end"),
    "no_content": answers(_head("204 No Content")),
    "two_answers": answers(OK + OK),
    "head_of_1000_lines": answers(_head("200 OK", *(f"X-{n}: a" for n in range(998)), "Content-Length: 0")),
    "head_of_1001_lines": answers(_head("200 OK", *(f"X-{n}: a" for n in range(999)), "Content-Length: 0")),
    "headers_150": answers(_head("200 OK", *(f"X-{n}: a" for n in range(149)), "Content-Length: 0")),
    "security_policy_of_9000": answers(
        _head("200 OK", "Content-Security-Policy: " + "default-src 'self'; " * 450, "Content-Length: 0")
    ),
    "head_of_64_kib": answers(_head("200 OK", *(f"X-{n}: " + "a" * 8100 for n in range(8)), "Content-Length: 0")),
    "header_of_9_kib": answers(_head("200 OK", "X-A: " + "a" * 9216, "Content-Length: 0")),
    "head_beyond_budget": answers(_head("200 OK", *(f"X-{n}: " + "a" * 8000 for n in range(100)))),
    "interim_then_silence": answers(_EARLY_HINTS),
    "interim_then_answer": answers(_EARLY_HINTS * 5 + OK),
    "interim_199": answers(_head("199 Nearly")),
    "chunk_extension_and_trailer": answers(CHUNKED + b"2;a=b\r\nok\r\n0\r\nX-A: a\r\n\r\n"),
    "endless_blank_lines": floods(b"", b"\r\n" * 1000),
    "huge_reason": answers(_head("200 " + "O" * 20_000, "Content-Length: 0")),
    "http_0_9": answers_and_closes(b"<html>a page</html>"),
    "http_1_0": answers_and_closes(b"HTTP/1.0 200 OK\r\n\r\nuntil the end"),
    "http_9_9": answers(b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "body_longer_than_said": answers(OK + b"extra"),
    "no_content_with_body": answers(_head("204 No Content", "Content-Length: 4") + b"body"),
    "byte_by_byte": answers_in_pieces(*(OK[n : n + 1] for n in range(len(OK)))),
    "chunk_size_overflow": answers(CHUNKED + b"FFFFFFFFFFFFFFFFF\r\nx"),
    "impossible_chunk_size": answers(CHUNKED + b"FFFFFFFFFFFFFFFF\r\n"),
    "impossible_chunk_later": answers_in_pieces(CHUNKED + b"2\r\nok\r\n", b"FFFFFFFFFFFFFFFF\r\n"),
    "impossible_content_length": answers(_head("200 OK", "Content-Length: 18446744073709551615")),
    "te_plus_cl": answers(_head("200 OK", "Transfer-Encoding: chunked", "Content-Length: 2") + b"2\r\nok\r\n0\r\n\r\n"),
    "same_cl_twice": answers(_head("200 OK", "Content-Length: 2", "Content-Length: 2") + b"ok"),
    "header_without_end_dripped": floods(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 64),
    "chunk_without_end": answers(CHUNKED + b"2\r\nokXX0\r\n\r\n"),
    "bad_chunk_later": answers_in_pieces(CHUNKED, b"zz\r\nok\r\n"),
    "content_length_list": answers(_head("200 OK", "Content-Length: 2, 2") + b"ok"),
    "content_length_plus": answers(_head("200 OK", "Content-Length: +2") + b"ok"),
    "flood_after_101": floods(_head("101 Switching", "Connection: upgrade", "Upgrade: websocket"), b"x" * 4096),
    "early_answer": answers_early,
    "gzip_garbage": answers(_head("200 OK", "Content-Encoding: gzip", "Content-Length: 4") + b"\x1f\x8b\xff\xff"),
}
