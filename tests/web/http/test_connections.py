"""Connections of clients: how many there may be, how long one may be silent, and who makes room for whom."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from daemon.config import ListenAddress
from daemon.runtime import open_files
from daemon.web.http.connections import ConnectionLimits
from daemon.web.http.listeners import bind, serving
from tests.support.until import until

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
MUCH = b"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG = ConnectionLimits(most=4, head_seconds=60, idle_seconds=60, stalled_seconds=60, sweep_seconds=0.01)
CLOSED_SECONDS = 10.0


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes = GET) -> bytes:
        """The status line of the answer."""
        self.writer.write(request)
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), CLOSED_SECONDS)
        if b"Content-Length: 5" in head:
            await self.reader.readexactly(5)
        return head.partition(b"\r\n")[0]

    async def until_closed(self) -> bytes:
        """What comes until the server closes the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(), CLOSED_SECONDS)
        except ConnectionResetError:
            return b""

    @property
    def is_open(self) -> bool:
        return not self.reader.at_eof() and self.reader.exception() is None


@dataclass
class Served:
    address: ListenAddress
    sockets: tuple[socket.socket, ...] = ()
    open: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    slow: int = 0
    much: int = 0
    read_bytes: int = 0
    clients: list[Client] = field(default_factory=list)

    def changed(self, change: int) -> None:
        self.open += change

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection(self.address.host, self.address.port))
        self.clients.append(client)
        return client


@asynccontextmanager
async def served(limits: ConnectionLimits) -> AsyncIterator[Served]:
    """An application that says hello, waits at /slow for `release`, reads a body at /read, and answers at /much with
    64 MiB.
    """
    listener = bind(ListenAddress(host="127.0.0.1", port=0))
    it = Served(address=listener.address, sockets=listener.sockets)

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def slow(_request: web.Request) -> web.Response:
        it.slow += 1
        await it.release.wait()
        return web.Response(text="hello")

    async def read(request: web.Request) -> web.Response:
        async for chunk in request.content.iter_any():
            it.read_bytes += len(chunk)
        return web.Response(text="hello")

    async def much(_request: web.Request) -> web.Response:
        it.much += 1
        return web.Response(body=bytes(64 << 20))

    application = web.Application()
    application.add_routes([web.get("/", hello), web.post("/", hello), web.get("/slow", slow), web.get("/much", much)])
    application.add_routes([web.post("/read", read)])
    async with serving(application, listener, limits, on_connections=it.changed):
        yield it
        it.release.set()
        for client in it.clients:
            client.writer.transport.abort()


def limits(**changed: float) -> ConnectionLimits:
    values: dict[str, float] = {
        name: getattr(LONG, name) for name in ("head_seconds", "idle_seconds", "stalled_seconds", "sweep_seconds")
    }
    return ConnectionLimits(most=4, **values | changed)


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    """Browsers open connections ahead of time, and would show an answer that they have not asked for."""
    async with served(limits(head_seconds=0.05)) as it:
        assert await (await it.client()).until_closed() == b""
        await until(lambda: it.open == 0)


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_head_that_never_ends_is_closed_and_told_so(is_first: bool) -> None:
    async with served(limits(head_seconds=0.2)) as it:
        client = await it.client()
        if not is_first:
            assert await client.ask() == b"HTTP/1.1 200 OK"

        async def drip() -> None:
            client.writer.write(GET[:-2] + b"X-Slow: ")
            while True:
                await asyncio.sleep(0.02)
                client.writer.write(b"x")

        dripping = asyncio.ensure_future(drip())
        told = await client.until_closed()
        dripping.cancel()
        assert told.startswith(b"HTTP/1.1 408 ") or told == b""  # a reset may overtake the answer
        await until(lambda: it.open == 0)


async def test_an_idle_connection_is_closed_and_a_new_request_lets_it_live_on() -> None:
    async with served(limits(idle_seconds=0.5)) as it:
        client = await it.client()
        for _ in range(5):
            assert await client.ask() == b"HTTP/1.1 200 OK"
        assert await client.until_closed() == b""
        await until(lambda: it.open == 0)


async def test_a_request_that_takes_long_is_not_idle() -> None:
    async with served(limits(idle_seconds=0.05, head_seconds=0.05)) as it:
        client = await it.client()
        asking = asyncio.ensure_future(client.ask(SLOW))
        other = await it.client()
        assert await other.until_closed() == b""
        await until(lambda: it.open == 1)
        it.release.set()
        assert await asking == b"HTTP/1.1 200 OK"


async def test_who_does_not_take_an_answer_is_closed() -> None:
    async with served(limits(stalled_seconds=0.1)) as it:
        client = await it.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of sockets has it
        client.writer.write(MUCH)
        await until(lambda: it.open == 1)
        await until(lambda: it.open == 0)


async def test_a_place_that_nobody_uses_goes_to_the_next_and_the_longest_idle_goes_first() -> None:
    async with served(LONG) as it:
        clients = [await it.client() for _ in range(4)]
        await until(lambda: it.open == 4)
        for client in (clients[0], clients[2]):
            assert await client.ask() == b"HTTP/1.1 200 OK"
        fifth, sixth = await it.client(), await it.client()
        assert [await each.ask() for each in (fifth, sixth)] == [b"HTTP/1.1 200 OK"] * 2
        assert [await each.until_closed() for each in (clients[1], clients[3])] == [b"", b""]
        assert it.open == 4
        assert [await each.ask() for each in (clients[0], clients[2])] == [b"HTTP/1.1 200 OK"] * 2


async def test_a_body_that_nobody_reads_keeps_no_place_from_others() -> None:
    async with served(LONG) as it:
        for _ in range(4):
            client = await it.client()
            head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
            assert await client.ask(head) == b"HTTP/1.1 200 OK"
        assert await (await it.client()).ask() == b"HTTP/1.1 200 OK"


async def test_if_every_place_has_a_request_the_next_is_turned_away_and_told_to_come_back() -> None:
    async with served(LONG) as it:
        asking = [asyncio.ensure_future((await it.client()).ask(SLOW)) for _ in range(4)]
        await until(lambda: it.slow == 4)
        told = await (await it.client()).until_closed()
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in told
        assert b"too many connections" in told
        await until(lambda: it.open == 4)
        it.release.set()
        assert await asyncio.gather(*asking) == [b"HTTP/1.1 200 OK"] * 4


async def test_requests_behind_an_answer_that_nobody_takes_keep_no_place_from_others() -> None:
    async with served(LONG) as it:
        for _ in range(4):
            client = await it.client()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport of sockets has it
            client.writer.write(MUCH + GET * 3)
        await until(lambda: it.much == 4)
        assert await (await it.client()).ask() == b"HTTP/1.1 200 OK"


async def test_a_body_that_stays_away_keeps_no_place_from_others_and_the_longest_silent_goes_first() -> None:
    async with served(LONG) as it:
        clients: list[Client] = []
        for _ in range(4):
            clients.append(await it.client())
            clients[-1].writer.write(b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n1")
            await until(lambda: it.read_bytes == len(clients))
        clients[0].writer.write(b"2")
        await until(lambda: it.read_bytes == 5)
        assert await (await it.client()).ask() == b"HTTP/1.1 200 OK"
        assert await clients[1].until_closed() == b""
        clients[0].writer.write(b"3")
        assert await clients[0].ask(b"") == b"HTTP/1.1 200 OK"


async def test_a_head_that_grows_too_long_is_refused() -> None:
    async with served(LONG) as it:
        client = await it.client()
        client.writer.write(GET[:-2] + b"".join(b"X-%d: %s\r\n" % (number, b"x" * 8000) for number in range(120)))
        told = await client.until_closed()
        assert told.startswith(b"HTTP/1.1 431 ") or told == b""  # a reset may overtake the answer
        await until(lambda: it.open == 0)


async def test_what_comes_behind_a_request_does_not_pile_up() -> None:
    """The server reads little of it before that request is answered, and the network keeps the rest."""
    head = GET[:-2] + b"".join(b"X-%d: %s\r\n" % (number, b"x" * 8000) for number in range(7)) + b"\r\n"
    requests = head * 40
    async with served(LONG) as it:
        for each in it.sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, (it.address.host, it.address.port))
            await loop.sock_sendall(client, SLOW)
            await until(lambda: it.slow == 1)
            sent = 0
            with suppress(TimeoutError):
                while sent < len(requests):
                    part = requests[sent : sent + (8 << 10)]
                    await asyncio.wait_for(loop.sock_sendall(client, part), 0.5)
                    sent += len(part)
            assert sent < 1 << 20


async def test_requests_one_behind_the_other_are_all_answered() -> None:
    async with served(limits(head_seconds=0.5)) as it:
        client = await it.client()
        client.writer.write(GET * 20 + GET[:10])
        for _ in range(20):
            assert await client.ask(b"") == b"HTTP/1.1 200 OK"
        assert await client.ask(GET[10:]) == b"HTTP/1.1 200 OK"


def test_clients_get_what_sending_does_not_need_and_always_some() -> None:
    def found(limit: int, wanted: int = 1000) -> int:
        return open_files.for_clients(limit, sending=512, others=8, wanted=wanted)

    assert [found(65_536), found(65_536, wanted=5), found(2048), found(1024), found(400)] == [1000, 5, 952, 256, 100]
