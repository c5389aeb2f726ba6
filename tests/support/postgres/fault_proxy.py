"""A TCP proxy in front of PostgreSQL that injects faults: it cuts connections, stalls them, or loses the answers.

The one thing to know: only the test starts and ends a fault, never chance or time. Lost answers are counted in bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit


class FaultProxy:
    """`url` is that of the proxy, in the form of the server's."""

    def __init__(self, target: str) -> None:
        self.url = ""
        self.lost_bytes = 0
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._answers_arrive = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False

    def cut(self) -> None:
        """Aborts all connections and refuses new ones."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def lead_to(self, target: str) -> None:
        """Leads new connections to another server, as a name that was changed does. Present ones go on."""
        self._target = target

    def restore(self) -> None:
        """Ends every fault."""
        self._is_cut = False
        self._answers_arrive = True
        self._flowing.set()

    def stall(self) -> None:
        """Passes nothing on, in either direction. Connections stay open, and new ones are accepted."""
        self._flowing.clear()

    def lose_answers(self) -> None:
        """Drops what the server sends. What the client sends still arrives."""
        self._answers_arrive = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        server_reader, server_writer = await _connect(self._target)
        self._writers |= {writer, server_writer}
        async with asyncio.TaskGroup() as group:
            group.create_task(self._carry(reader, server_writer, is_answer=False))
            group.create_task(self._carry(server_reader, writer, is_answer=True))
        self._writers -= {writer, server_writer}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65536):
                await self._flowing.wait()
                if is_answer and not self._answers_arrive:
                    self.lost_bytes += len(chunk)
                    continue
                writer.write(chunk)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def fault_proxy(url: str) -> AsyncIterator[FaultProxy]:
    """A proxy to the server of `url`, on a port of loopback."""
    proxy = FaultProxy(url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0] or "postgres"
    proxy.url = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}", query=""))
    try:
        yield proxy
    finally:
        server.close()
        proxy.restore()
        proxy.cut()


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    host = parts.hostname or parse_qs(parts.query).get("host", ["localhost"])[0]
    port = parts.port or int(parse_qs(parts.query).get("port", ["5432"])[0])
    if unquote(host).startswith("/"):
        return await asyncio.open_unix_connection(f"{unquote(host)}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)
