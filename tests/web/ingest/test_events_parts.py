"""Batches that are stored in parts have the same guarantees as small batches."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from daemon.web.ingest import publish as events_api
from daemon.web.ingest.batch import PART_BYTES, PART_EVENTS
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.errors import Deadlocked
from tests.support.postgres.fault_proxy import fault_proxy
from tests.support.postgres.queries import until_waiting
from tests.support.web.application import Answer, App, app

LINES = 2 * PART_EVENTS + 100


def line(id: str, *, data: str = "{}") -> bytes:
    return f'{{"tenant":"acme","type":"a.b","id":"{id}","data":{data}}}'.encode()


async def publish(to: App, lines: list[bytes]) -> Answer:
    headers = {"Content-Type": "application/x-ndjson"}
    return await to.ask("POST", "/v1/events", data=b"\n".join(lines), headers=headers)


async def test_lines_of_all_parts_are_answered_and_stored_in_their_order_in_one_transaction(app: App) -> None:
    lines = [line(f"e{n}") if n % 3 else b"bad" for n in range(LINES)]
    lines[-1] = line("e1")
    answer = await publish(app, lines)
    good = [f"e{n}" for n in range(LINES - 1) if n % 3]
    events = answer.json["events"]
    assert [event["id"] for event in events] == [f"e{n}" if n % 3 else None for n in range(LINES - 1)] + ["e1"]
    assert [event["line"] for event in events if "line" in event] == [n + 1 for n in range(LINES - 1) if not n % 3]
    assert events[-1]["status"] == "duplicate"
    assert (answer.json["accepted"], answer.json["duplicates"]) == (len(good), 1)
    stored = await app.events()
    assert [row["id"] for row in stored] == good
    assert len({row["txid"] for row in stored}) == 1
    assert len(app.hurried) == 1


async def test_a_part_ends_at_a_number_of_bytes_too(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    store = domain_events.events.publish_within

    async def counted(connection: asyncpg.pool.PoolConnectionProxy, events: list[NewEvent]) -> list[bool]:
        sizes.append(sum(len(event.data) for event in events))
        return await store(connection, events)

    monkeypatch.setattr(domain_events.events, "publish_within", counted)
    data = f'{{"a":"{"x" * 100_000}"}}'
    assert (await publish(app, [line(f"e{n}", data=data) for n in range(50)])).json["accepted"] == 50
    assert sum(sizes) == 50 * len(data)
    assert max(sizes) < PART_BYTES + len(data)


async def test_a_refused_value_rejects_its_line_only(database_url: str) -> None:
    async with app(database_url) as opened:
        await opened.rows("ALTER TABLE hookledger.domain_event ADD CONSTRAINT picky CHECK (id <> 'e700')")
        answer = await publish(opened, [line(f"e{n}") for n in range(LINES)])
        assert (answer.json["accepted"], answer.json["rejected"]) == (LINES - 1, 1)
        assert answer.json["events"][700]["status"] == "rejected"
        assert [row["id"] for row in await opened.events()] == [f"e{n}" for n in range(LINES) if n != 700]


FULL_DISK = """
CREATE FUNCTION hookledger.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON hookledger.domain_event
    FOR EACH ROW WHEN (NEW.id = 'e900') EXECUTE FUNCTION hookledger.refuse();
"""


async def test_an_outage_in_the_middle_stores_nothing(database_url: str) -> None:
    async with app(database_url) as opened:
        async with opened.database.connection() as connection:
            await connection.execute(FULL_DISK)
        assert (await publish(opened, [line(f"e{n}") for n in range(LINES)])).status == 503
        assert await opened.events() == []
        assert (await publish(opened, [line(f"e{n}") for n in range(900)])).json["accepted"] == 900


async def test_more_batches_than_there_are_turns_are_all_stored(app: App) -> None:
    batches = [[line(f"e{turn}-{n}") for n in range(PART_EVENTS + 1)] for turn in range(5)]
    answers = await asyncio.gather(*[publish(app, batch) for batch in batches])
    assert [answer.json["accepted"] for answer in answers] == [PART_EVENTS + 1] * 5


async def test_a_silent_database_is_503_for_batches_in_turn_and_for_those_that_wait(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fault_proxy(empty_url) as proxy, app(proxy.url) as opened:
        batches = [[line(f"e{turn}-{n}") for n in range(PART_EVENTS + 1)] for turn in range(4)]
        assert (await publish(opened, batches[0])).status == 202
        proxy.stall()
        with monkeypatch.context() as patch:
            patch.setattr(events_api, "ANSWER_SECONDS", 0.2)
            answers = await asyncio.gather(*[publish(opened, batch) for batch in batches])
        assert {answer.status for answer in answers} == {503}
        proxy.restore()
        assert (await publish(opened, batches[0])).json["duplicates"] == PART_EVENTS + 1


_STORED_A_PART = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
)


class Parts:
    """The parts of a batch. The last part waits for `go_on`."""

    def __init__(self, *ids: str) -> None:
        self._ids = list(ids)
        self.go_on = asyncio.Event()

    def __aiter__(self) -> Parts:
        return self

    async def __anext__(self) -> list[NewEvent]:
        if not self._ids:
            raise StopAsyncIteration
        if len(self._ids) == 1:
            await self.go_on.wait()
        return [NewEvent(tenant="acme", id=self._ids.pop(0), type="a.b", data=b"{}")]


async def test_two_batches_with_the_same_ids_in_opposite_parts_are_both_answered(app: App) -> None:
    there, back = Parts("a", "z"), Parts("z", "a")
    commit = app.client.app[events_api.GROUP_COMMIT]
    tasks = [
        asyncio.create_task(commit.publish_batch(aiter(parts), is_one_part=False, seconds=10))
        for parts in (there, back)
    ]
    async with asyncio.timeout(10):
        while (await app.rows(_STORED_A_PART))[0]["count"] < 2:
            await asyncio.sleep(0.01)
    there.go_on.set()
    back.go_on.set()
    outcomes = await asyncio.gather(*tasks)
    assert sorted(outcomes) == [[False, False], [True, True]]
    assert sorted(row["id"] for row in await app.events()) == ["a", "z"]


async def test_a_statement_that_meets_a_batch_crosswise_is_answered_too(empty_url: str, app: App) -> None:
    """The statement has locked `b` and waits for `z`, which the batch has locked. Then the batch waits for `b`."""
    watcher = await asyncpg.connect(empty_url)
    events = {id: NewEvent(tenant="acme", id=id, type="a.b", data=b"{}") for id in "bz"}
    statement: asyncio.Task[list[bool]] | None = None
    is_batch_stored = True
    try:
        async with domain_events.publishing(app.database, seconds=10) as publish_part:
            await publish_part([events["z"]])
            statement = asyncio.create_task(domain_events.publish(app.database, [events["b"], events["z"]], seconds=10))
            await until_waiting(watcher)
            await publish_part([events["b"]])
    except Deadlocked:
        is_batch_stored = False
    finally:
        await watcher.close()
    assert statement is not None
    assert await statement == [not is_batch_stored] * 2
    assert len(await app.events()) == 2
