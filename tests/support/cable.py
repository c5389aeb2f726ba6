"""A cable between a client and PostgreSQL that can be cut, held, or made to lose the answers.

The one thing to know: it is cut and mended by the test, never by chance or by time, and what passed is counted in bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit


class Cable:
    """`url` leads through the cable."""

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
        """Ends what is connected, and refuses what comes."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self._is_cut = False
        self._answers_arrive = True
        self._flowing.set()

    def hold(self) -> None:
        """From now on nothing passes, in either direction; connections stay open, new ones are accepted."""
        self._flowing.clear()

    def lose_answers(self) -> None:
        """Questions still arrive."""
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
async def cable(url: str) -> AsyncIterator[Cable]:
    """A cable to the server of `url`, on a port of loopback."""
    line = Cable(url)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0] or "postgres"
    line.url = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}", query=""))
    try:
        yield line
    finally:
        server.close()
        line.mend()
        line.cut()


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    host = parts.hostname or parse_qs(parts.query).get("host", ["localhost"])[0]
    port = parts.port or int(parse_qs(parts.query).get("port", ["5432"])[0])
    if unquote(host).startswith("/"):
        return await asyncio.open_unix_connection(f"{unquote(host)}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)
