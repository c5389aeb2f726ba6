"""Where the daemon listens: sockets are bound in one place, and served by this process or by all that inherit them.

A bound socket does not listen yet: until somebody serves it, connections are refused and not kept waiting.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from daemon.config import Address
from daemon.config.sections import Server
from daemon.web.runner import Runner

SHUTDOWN_SECONDS = 3.0
BACKLOG = 512

# Family and socket address: host, port, and two more numbers for IPv6.
Place = tuple[int, tuple[Any, ...]]


class ListenFailed(Exception):
    """An address cannot be bound; `str()` says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """`address` has the port that was really bound; a name may stand for several sockets, as `localhost` does."""

    address: Address
    sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        for each in self.sockets:
            each.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """`ops` is None if the endpoints for operations are on the main listener."""

    main: Listener
    ops: Listener | None

    def close(self) -> None:
        self.main.close()
        if self.ops is not None:
            self.ops.close()


def open_doors(server: Server) -> Doors:
    """Binds what the configuration names. Raises ListenFailed."""
    main = bind(server.listen)
    try:
        return Doors(main=main, ops=None if server.ops_listen is None else bind(server.ops_listen))
    except ListenFailed:
        main.close()
        raise


def bind(address: Address) -> Listener:
    """Sockets bound to every address that the host's name has here. Raises ListenFailed."""
    bound: list[socket.socket] = []
    try:
        with ExitStack() as undo:
            for family, place in _places(address):
                each = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
                _bind(each, place if not bound else (place[0], bound[0].getsockname()[1], *place[2:]))
                bound.append(each)
            undo.pop_all()
    except OSError as error:
        raise ListenFailed(f"cannot listen on {address}: {error.strerror or error}") from error
    port = int(bound[0].getsockname()[1])
    return Listener(address=Address(host=address.host, port=port), sockets=tuple(bound))


@asynccontextmanager
async def serving(application: web.Application, listener: Listener) -> AsyncIterator[None]:
    """Serves an application on sockets, and closes them at the end."""
    runner = Runner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        for each in listener.sockets:
            await web.SockSite(runner, each, backlog=BACKLOG).start()
        yield
    finally:
        await runner.cleanup()
        listener.close()


def _places(address: Address) -> list[Place]:
    """Family and socket address of each; without those of IPv6 where the machine has none, unless there is no other."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places: list[Place] = list(dict.fromkeys((family, place) for family, _, _, _, place in found))
    return [each for each in places if each[0] != socket.AF_INET6 or _has_ipv6()] or places


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _bind(each: socket.socket, place: tuple[Any, ...]) -> None:
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if each.family == socket.AF_INET6:
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 is an address of its own
    each.bind(place)
