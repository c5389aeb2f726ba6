"""Hostile receivers in a process of their own, so that their work does not slow the test that measures the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.connection import Connection

import uvloop

from tests.support.receivers.hostile import BEHAVIOURS, Behaviour, HostileReceiver, Peer


def all_behaviours_in_turn() -> Behaviour:
    """Misbehaves differently on every connection."""
    turns = cycle(BEHAVIOURS.values())

    async def behaviour(peer: Peer) -> None:
        await next(turns)(peer)

    return behaviour


@contextmanager
def hostile_receivers(count: int) -> Iterator[list[str]]:
    """Runs `count` receivers that misbehave in all ways. Yields their URLs."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, count), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, count: int) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            receivers = [
                await stack.enter_async_context(HostileReceiver(all_behaviours_in_turn())) for _ in range(count)
            ]
            pipe.send([receiver.url() for receiver in receivers])
            await asyncio.Event().wait()

    uvloop.run(run())
