"""A clean stop under load: nothing is lost or sent twice, and the leases are released."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter

import pytest
from aiohttp import web

from eventstore.leases import lease
from eventstore.progress import recording
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.receiver import receiver


async def test_stops_under_load_lose_nothing_and_repeat_nothing(database_url: str) -> None:
    published: list[str] = []
    async with receiver() as there:
        for n in range(6):
            async with pipeline_process(database_url) as it:
                if not published:
                    for path in range(2):
                        await it.route(f"{there.url}/{path}")
                published += await it.publish(count=300)
                await there.count((n + 1) * 450)
        async with pipeline_process(database_url) as it:
            await it.until_accounted()
            await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", len(published) * 2)
        counts = Counter((got.path, json.loads(got.body)["id"]) for got in there.received)
        assert counts == dict.fromkeys(((f"/{n}", i) for n in range(2) for i in published), 1)


async def test_a_stop_waits_for_the_flush_that_is_under_way(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first flush is slow. If the next one overtook it, the first would count as old, and its rows would be lost."""
    flush = recording.flush
    is_first = True

    async def slow(*arguments: object, **options: object) -> object:
        nonlocal is_first
        wait, is_first = is_first, False
        if wait:
            began.set()
            await asyncio.sleep(0.3)
        return await flush(*arguments, **options)  # type: ignore[arg-type] # the original's arguments

    began = asyncio.Event()
    async with receiver() as there:
        async with pipeline_process(database_url) as it:
            await it.route(there.url)
            await it.publish(count=100)
            await there.count(30)
            monkeypatch.setattr(recording, "flush", slow)
            await asyncio.wait_for(began.wait(), 5)
        async with pipeline_process(database_url) as it:
            await it.until_accounted()
            await it.until_row("SELECT count(*) = 100 FROM hookledger.attempt")
            assert len(there.received) == 100


async def test_a_request_under_way_is_finished_and_recorded(database_url: str) -> None:
    async def slow(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return web.Response()

    async with receiver() as there:
        there.answer["/"] = slow
        async with pipeline_process(database_url) as it:
            await it.route(there.url + "/")
            (event_id,) = await it.publish()
            await there.count(1)
        async with pipeline_process(database_url, run=False) as it:
            assert await it.outcomes() == {event_id: ["delivered"]}


async def test_a_stop_frees_the_leases_and_takes_none_again(database_url: str) -> None:
    async with pipeline_process(database_url) as it:
        await it.until_row("SELECT count(*) = 16 FROM hookledger.lease WHERE expires_at > clock_timestamp()")
    async with pipeline_process(database_url, run=False) as it:
        rows = await it.rows(
            "SELECT DISTINCT owner, epoch, expires_at < clock_timestamp() AS is_free FROM hookledger.lease"
        )
        assert rows == [{"owner": None, "epoch": 1, "is_free": True}]


async def test_a_successor_starts_at_once(database_url: str) -> None:
    async with receiver() as there:
        async with pipeline_process(database_url) as it:
            await it.route(there.url)
            await it.publish()
            await there.count(1)
        began = time.monotonic()
        async with pipeline_process(database_url) as it:
            await it.publish()
            await there.count(2)
        # A successor that waited for the leases to run out would take that long at least.
        assert time.monotonic() - began < lease.TTL.total_seconds()
