"""A consumer whose brokers are none: it is told, and ends nothing."""

from __future__ import annotations

import asyncio
import struct

import pytest

from daemon.sources.client import KafkaClient, SourceFault
from tests.support.sources import config_of

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
