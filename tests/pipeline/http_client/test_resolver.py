"""Which addresses are remembered, and who shares a question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from daemon.pipeline.http_client import resolver
from daemon.pipeline.http_client.resolver import MAX_RESOLVED, RememberingResolver, SystemResolver
from tests.support.receivers.dns import DnsEntry, FakeResolver, NameServer


class Gated:
    """A resolver that answers when it is told to, with what is set then."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.addresses: Sequence[str] = ()

    async def resolve(self, host: str) -> Sequence[str]:
        self.asked += 1
        await self.gate.wait()
        if not self.addresses:
            raise OSError(None, "no such name")
        return self.addresses

    async def close(self) -> None:
        pass


MANY = tuple([f"8.8.{number // 256}.{number % 256}" for number in range(1000)])


@asynccontextmanager
async def asked_of(entry: DnsEntry) -> AsyncIterator[tuple[SystemResolver, NameServer]]:
    async with NameServer({"hooks.shop.com": entry}) as server:
        names = SystemResolver([server.address])
        try:
            yield names, server
        finally:
            await names.close()


async def test_of_a_name_with_thousands_of_addresses_those_are_enough_that_fit_into_a_datagram() -> None:
    async with asked_of(DnsEntry(addresses=MANY, in_datagram=10)) as (names, server):
        assert sorted(await names.resolve("hooks.shop.com")) == sorted(MANY[:10])
        assert not server.asked_by_tcp


async def test_a_name_whose_datagram_has_no_address_is_asked_for_by_tcp_and_has_so_many_at_most() -> None:
    async with asked_of(DnsEntry(addresses=MANY, in_datagram=0)) as (names, server):
        found = await names.resolve("hooks.shop.com")
        assert len(set(found)) == MAX_RESOLVED
        assert set(found) <= set(MANY)
        assert server.asked_by_tcp["hooks.shop.com"] > 0


async def test_a_name_without_an_address_has_none_by_tcp_either() -> None:
    async with asked_of(DnsEntry()) as (names, _):
        with pytest.raises(OSError, match="no address"):
            await names.resolve("hooks.shop.com")


async def asking(count: int, names: RememberingResolver) -> list[asyncio.Task[Sequence[str]]]:
    tasks = [asyncio.create_task(names.resolve("hooks.shop.com")) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_an_address_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    names = RememberingResolver(FakeResolver(hooks_shop_com=[["192.0.2.1"], ["192.0.2.2"]]))
    assert [await names.resolve("hooks.shop.com") for _ in range(2)] == [["192.0.2.1"]] * 2
    monkeypatch.setattr(resolver, "REMEMBERED_SECONDS", -1.0)
    await asyncio.sleep(0.002)  # uvloop's clock has milliseconds
    assert await names.resolve("hooks.shop.com") == ["192.0.2.2"]


async def test_all_who_wait_for_a_name_get_its_one_answer() -> None:
    gated = Gated()
    tasks = await asking(20, RememberingResolver(gated))
    gated.addresses = ["192.0.2.1"]
    gated.gate.set()
    assert await asyncio.gather(*tasks) == [["192.0.2.1"]] * 20
    assert gated.asked == 1


async def test_all_who_wait_for_a_name_get_its_one_error_and_who_asks_later_asks_again() -> None:
    gated = Gated()
    names = RememberingResolver(gated)
    tasks = await asking(20, names)
    gated.gate.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in found} == {OSError}
    assert gated.asked == 1
    gated.addresses = ["192.0.2.1"]
    await asyncio.sleep(0.002)  # later, by any clock
    assert await names.resolve("hooks.shop.com") == ["192.0.2.1"]


async def test_the_next_asks_if_the_one_who_asked_is_cancelled() -> None:
    gated = Gated()
    first, *others = await asking(3, RememberingResolver(gated))
    first.cancel()
    await asyncio.wait([first])
    gated.addresses = ["192.0.2.1"]
    gated.gate.set()
    assert await asyncio.gather(*others) == [["192.0.2.1"]] * 2
    assert gated.asked == 2


async def test_so_many_names_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "REMEMBERED_NAMES", 10)
    names = RememberingResolver(FakeResolver(**{"*": [["192.0.2.1"]]}))
    for number in range(30):
        await names.resolve(f"n{number}.shop.com")
    assert list(names._names) == [f"n{number}.shop.com" for number in range(20, 30)]
