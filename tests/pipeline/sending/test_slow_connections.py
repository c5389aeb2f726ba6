"""While a connection is made, the route may change: a request goes out by what holds once the connection is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from standardwebhooks import Webhook

from daemon.core.routing.route import Route
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Receiver, receiver


@dataclass
class HeldResolver:
    """Finds every name on loopback, once it `may_answer`."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def resolve(self, _host: str) -> Sequence[str]:
        self.asked.set()
        await self.may_answer.wait()
        return ["127.0.0.1"]

    async def close(self) -> None:
        pass


@dataclass
class Dialling:
    """A pipeline with one event, whose first request waits for its connection until `let` is called."""

    it: PipelineProcess
    there: Receiver
    route: Route
    event_id: str
    resolver: HeldResolver

    @property
    def url(self) -> str:
        return self.there.url.replace("127.0.0.1", "hooks.shop.com")

    def let(self) -> None:
        self.resolver.may_answer.set()

    async def ended(self) -> list[str]:
        """The outcomes of the event, once there is one."""
        await self.it.until_row("SELECT count(*) > 0 FROM hookledger.attempt")
        await self.it.until_accounted()
        return (await self.it.outcomes())[self.event_id]


@asynccontextmanager
async def dialling(database_url: str) -> AsyncIterator[Dialling]:
    resolver = HeldResolver()
    async with receiver() as there, pipeline_process(database_url, resolver=resolver, timeout_seconds=30.0) as it:
        route = await it.route(there.url.replace("127.0.0.1", "hooks.shop.com") + "/old")
        (event_id,) = await it.publish()
        await resolver.asked.wait()
        yield Dialling(it, there, route, event_id, resolver)


async def test_a_route_that_was_disabled_meanwhile_gets_nothing(database_url: str) -> None:
    async with dialling(database_url) as under_way:
        await under_way.it.disable(under_way.route)
        await under_way.it.enable(under_way.route)
        under_way.let()
        assert await under_way.ended() == ["suppressed"]
        assert under_way.there.received == []


async def test_the_target_of_that_moment_gets_it(database_url: str) -> None:
    async with dialling(database_url) as under_way:
        await under_way.it.edit(under_way.route, target_url=under_way.url + "/new")
        under_way.let()
        assert await under_way.ended() == ["delivered"]
        assert [got.path for got in under_way.there.received] == ["/new"]


async def test_a_key_that_was_revoked_meanwhile_signs_nothing(database_url: str) -> None:
    async with dialling(database_url) as under_way:
        it, route = under_way.it, under_way.route
        rotated = await it.commands.rotate_key(route.tenant, route.id, CONTEXT)
        await it.commands.revoke_old_key(route.tenant, route.id, CONTEXT)
        under_way.let()
        assert await under_way.ended() == ["delivered"]
        (got,) = under_way.there.received
        Webhook(await it.commands.reveal_key(rotated.route)).verify(got.body, got.headers)
        assert got.headers["OrderGroove-Signature"].count("sig=") == 1


async def test_a_process_that_lost_the_shard_meanwhile_leaves_it_to_the_next_owner(database_url: str) -> None:
    async with dialling(database_url) as under_way:
        under_way.it.pipeline.shards.lose_all()
        await under_way.it.until_row("SELECT min(epoch) > 1 FROM hookledger.lease")  # it is the next owner itself
        under_way.let()
        assert await under_way.ended() == ["delivered"]
    assert len(under_way.there.received) == 1
