"""A receiver on loopback that records its requests and gives prepared answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answerer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


async def ok(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


def status(code: int, headers: dict[str, str] | None = None) -> Answerer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers, text=f"status {code}")

    return answer


def once(first: Answerer, then: Answerer = ok) -> Answerer:
    """Answers the first request with one, all others with the other: nobody has to change it between two attempts."""
    answers = iter([first])

    async def answer(request: web.Request) -> web.StreamResponse:
        return await next(answers, then)(request)

    return answer


@dataclass
class Receiver:
    """`answer[path]` makes the answer; a path without one gets 204. `until` waits for a state of `received`."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answer: dict[str, Answerer] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def at(self, path: str) -> list[Received]:
        return [r for r in self.received if r.path == path]

    async def until(self, state: Callable[[], bool], *, seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(state)

    async def count(self, number: int, *, path: str | None = None, seconds: float = 60.0) -> list[Received]:
        """Waits until at least `number` requests have arrived. Returns all so far."""

        def got() -> list[Received]:
            return self.received if path is None else self.at(path)

        try:
            await self.until(lambda: len(got()) >= number, seconds=seconds)
        except TimeoutError:
            raise AssertionError(f"{len(got())} of {number} requests came within {seconds} s") from None
        return got()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.received.append(Received(request.path, dict(request.headers), body))
        async with self._news:
            self._news.notify_all()
        return await self.answer.get(request.path, ok)(request)


@asynccontextmanager
async def receiver(it: Receiver | None = None) -> AsyncIterator[Receiver]:
    it = it or Receiver()
    application = web.Application(client_max_size=8 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", it.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield it
    finally:
        await runner.cleanup()


def gate(there: Receiver, path: str, code: int = 204) -> asyncio.Event:
    """Holds requests to `path` until the returned event is set, then answers them with `code`."""
    opened = asyncio.Event()

    async def answer(_request: web.Request) -> web.StreamResponse:
        await opened.wait()
        return web.Response(status=code)

    there.answer[path] = answer
    return opened
