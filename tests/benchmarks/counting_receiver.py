"""A cheap receiver in a process of its own: it answers 204 to every POST and counts the requests.

It speaks just enough HTTP/1.1 for our own sender: keep-alive, Content-Length bodies. Over TLS too, as HOST.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import uvloop

from tests.support.values.certificates import issue, pem, serving

HOST = "hooks.shop.com"
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class RawConnection(asyncio.Protocol):
    """One connection. It calls `request_received` with each request, head and body."""

    def __init__(self) -> None:
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pending += data
        while (end := self._pending.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._pending, 0, end)
            total = end + 4 + (int(length.group(1)) if length else 0)
            if len(self._pending) < total:
                return
            request, self._pending = self._pending[:total], self._pending[total:]
            self.request_received(request)

    def request_received(self, request: bytes) -> None:
        raise NotImplementedError

    def answer(self, answer: bytes = ANSWER) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)  # type: ignore[attr-defined]  # a TCP transport is a write transport


class _Counter(RawConnection):
    def __init__(self, count: Synchronized[int]) -> None:
        super().__init__()
        self._count = count

    def request_received(self, request: bytes) -> None:
        self._count.value += 1
        self.answer()


def _serve(pipe: Connection, count: Synchronized[int], authority_file: Path | None) -> None:
    tls: ssl.SSLContext | None = None
    if authority_file is not None:
        authority = issue("Benchmark CA")
        tls = serving(issue(HOST, issuer=authority), authority_file.parent)
        authority_file.write_bytes(pem(authority))

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Counter(count), "127.0.0.1", 0, ssl=tls)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


@contextmanager
def counting_tls_receiver() -> Iterator[tuple[str, Synchronized[int], Path]]:
    """Runs a receiver over TLS. Yields its URL, the number of requests that it has answered, and its authority."""
    with tempfile.TemporaryDirectory(prefix="hookledger-benchmark-") as folder:
        authority_file = Path(folder) / "ca.pem"
        with counting_receiver(authority_file) as (url, count):
            yield url.replace("http://127.0.0.1", f"https://{HOST}"), count, authority_file


@contextmanager
def counting_receiver(authority_file: Path | None = None) -> Iterator[tuple[str, Synchronized[int]]]:
    """Runs a receiver, over TLS if there is a file for its authority. Yields its URL and the number of requests that it
    has answered.
    """
    context = get_context("spawn")
    count = context.Value("q", 0, lock=False)
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, count, authority_file), daemon=True)
    process.start()
    theirs.close()
    try:
        yield f"http://127.0.0.1:{ours.recv()}", count
    finally:
        process.terminate()
        process.join()
