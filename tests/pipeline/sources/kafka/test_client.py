"""A consumer whose brokers are none: it is told, and ends nothing."""

from __future__ import annotations

import asyncio
import struct
from contextlib import AsyncExitStack

import pytest

from daemon.sources.kafka import client
from daemon.sources.kafka.client import KafkaClient, SourceFault
from tests.support.kafka.sources import config_of

# A length, and the number of the request (its third word) that is answered.
_HEAD = struct.Struct(">i4s")


@pytest.mark.parametrize("access", [{}, {"sasl": "scram-sha-256", "username": "ada", "password": "lovelace"}])
async def test_what_answers_and_is_no_broker_is_a_fault(access: dict[str, str]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(4096):
            writer.write(_HEAD.pack(44, request[8:12]) + b"\xff" * 40)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        section = config_of(address, "orders", **access).sources["shop"]
        with pytest.raises(SourceFault, match=f"no broker of {address} can be reached"):
            async with KafkaClient("shop", section, max_bytes=1).consumer(in_group=True):
                pass


async def test_brokers_that_are_silent_are_asked_at_once_and_not_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: set[int] = set()
    all_asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.add(writer.get_extra_info("sockname")[1])
        if len(asked) == 3:
            all_asked.set()
        await all_asked.wait()
        writer.close()

    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0)) for _ in range(3)]
        brokers = ",".join(f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers)
        monkeypatch.setattr(client, "CONNECT_SECONDS", 0.1)
        monkeypatch.setattr(client, "CAUSE_SECONDS", 60.0)
        section = config_of(brokers, "orders").sources["shop"]
        with pytest.raises(SourceFault, match="can be reached"):
            async with asyncio.timeout(20), KafkaClient("shop", section, max_bytes=1).consumer(in_group=True):
                pass
