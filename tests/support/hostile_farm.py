"""Hostile receivers in a process of their own, so that what they do costs the daemon and not who measures it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.connection import Connection

import uvloop

from tests.support.hostile import BEHAVIOURS, Behaviour, Peer, Receiver


def every_one_in_turn() -> Behaviour:
    """A receiver that misbehaves differently on every connection."""
    turns = cycle(BEHAVIOURS.values())

    async def behaviour(peer: Peer) -> None:
        await next(turns)(peer)

    return behaviour


@contextmanager
def farm(count: int) -> Iterator[list[str]]:
    """The URLs of so many such receivers."""
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
            receivers = [await stack.enter_async_context(Receiver(every_one_in_turn())) for _ in range(count)]
            pipe.send([receiver.url() for receiver in receivers])
            await asyncio.Event().wait()

    uvloop.run(run())
