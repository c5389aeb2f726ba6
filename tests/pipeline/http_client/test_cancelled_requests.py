"""Requests that are given up at any moment: no socket is left behind, nor a connection that counts."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from daemon.pipeline.http_client.resolver import SystemResolver
from daemon.pipeline.http_client.sender import Sender
from tests.support.event_loops import ON_BOTH_LOOPS, event_loop_policy  # noqa: F401 - a fixture
from tests.support.pipeline.sending import BODY, LINES, sender
from tests.support.receivers import hostile
from tests.support.receivers.dns import TAR_PIT, FakeResolver, NameServer
from tests.support.receivers.hostile import HostileReceiver, Peer
from tests.support.until import until
from tests.support.values.certificates import issue, pem, serving

pytestmark = ON_BOTH_LOOPS

STEPS = 60
"""Turns of the event loop: enough for name, connect, two handshakes, request and answer. On a machine with much else to do the
receiver may come to its turn later; then there are more, until it has."""


def open_sockets() -> int:
    count = 0
    for descriptor in os.listdir("/dev/fd"):  # noqa: PTH208 - numbers are wanted
        with suppress(OSError):  # that of the listing itself is closed
            count += stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode)
    return count


async def give_up(sending: Sender, url: str, *, body: bytes = BODY) -> None:
    """Gives up a request once it waits for something."""
    task = asyncio.create_task(sending.send(url, LINES, body))
    await until(lambda: sending._pool.open_connections == 1)
    await asyncio.sleep(0.05)  # until it hangs: there is no signal of what is not answered
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@asynccontextmanager
async def nothing_left(**options: Any) -> AsyncIterator[Sender]:
    """A sender that has to leave no file and no connection behind."""
    changes: list[int] = []
    before = open_sockets()
    async with sender(on_connections=changes.append, timeout_seconds=60, **options) as sending:
        yield sending
        await until(lambda: sending._pool.open_connections == 0 and not sending._pool._open, seconds=10)
    await until(lambda: open_sockets() <= before, seconds=10)
    assert sum(changes) == 0
    assert not sending._pool._deadlines._waiting


async def deaf(peer: Peer) -> None:
    peer.stop_reading()
    await asyncio.Event().wait()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_request_that_waits_for_answer_or_handshake(scheme: str) -> None:
    async with HostileReceiver(hostile.silent) as receiver, nothing_left() as sending:
        await give_up(sending, receiver.url(scheme=scheme))
        await asyncio.wait_for(receiver.ended.acquire(), 5)


async def test_a_request_whose_body_nobody_reads() -> None:
    async with nothing_left() as sending, HostileReceiver(deaf) as receiver:  # which never notices
        await give_up(sending, receiver.url(), body=bytes(16 * 1024 * 1024))


async def test_a_request_that_waits_for_a_name() -> None:
    async with (
        NameServer({"pit.shop.com": TAR_PIT}) as server,
        nothing_left(resolver=SystemResolver([server.address])) as sending,
    ):
        await give_up(sending, "http://pit.shop.com:9/")


async def test_a_request_that_waits_for_a_tunnel_and_for_the_handshake_in_it() -> None:
    async with HostileReceiver(hostile.silent) as proxy, nothing_left(proxy=proxy.url("")) as sending:
        await give_up(sending, "https://hooks.shop.com/")
    async with (
        HostileReceiver(hostile.silent) as receiver,
        HostileReceiver(hostile.tunnels_to(receiver)) as proxy,
        nothing_left(proxy=proxy.url("")) as sending,
    ):
        await give_up(sending, "https://hooks.shop.com/")


@pytest.mark.parametrize("way", ["plain", "tls", "tunnel", "tls tunnel"])
async def test_a_request_that_is_given_up_at_any_step_of_the_event_loop(way: str, tmp_path: Path) -> None:
    authority = issue("Test CA")
    (tmp_path / "ca.pem").write_bytes(pem(authority))
    tls = None if way == "plain" else serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    proxy_tls = serving(issue("proxy.shop.com", issuer=authority), tmp_path) if way == "tls tunnel" else None
    async with (
        HostileReceiver(hostile.polite, tls=tls) as receiver,
        HostileReceiver(hostile.tunnels_to(receiver), tls=proxy_tls) as proxy,
    ):
        url = receiver.url(scheme="http" if tls is None else "https", host="hooks.shop.com")
        names = FakeResolver(**{"*": [["127.0.0.1"]]})
        options = {"resolver": names, "extra_ca_file": tmp_path / "ca.pem"}
        if "tunnel" in way:
            options["proxy"] = proxy.url("", scheme="http" if proxy_tls is None else "https", host="proxy.shop.com")
        steps = 0
        while steps < STEPS or not receiver.connections:
            async with nothing_left(**options) as sending:
                task = asyncio.create_task(sending.send(url, LINES, BODY))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                sending._pool.close()
            steps += 1 if steps < STEPS else steps
