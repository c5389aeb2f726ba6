"""The search for events whose data may have a value: what one stretch reads and returns is bounded."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eventstore import domain_events
from eventstore.postgres.connect import Database
from eventstore.queries.events import field_search
from eventstore.queries.events.field_search import Candidates, SearchBounds
from tests.support.values.builders import new_event

BEGIN = (datetime(9999, 1, 1, tzinfo=UTC), 0)
SINCE = datetime(1970, 1, 1, tzinfo=UTC)
LONG = 100_000


async def publish(database: Database, sizes: list[int], word: str = "there") -> None:
    """An event of each size, the newest last; each has the word at its end."""
    for number, size in enumerate(sizes):
        data = f'{{"filling": "{"x" * size}", "word": "{word}"}}'.encode()
        await domain_events.publish(database, [new_event(id=f"e{number}", data=data)])


async def looked(
    database: Database, needle: str, begin: tuple[datetime, int] = BEGIN, *, data_bytes: int
) -> Candidates:
    bounds = SearchBounds(rows=100, data_bytes=data_bytes, hits=100)
    return await field_search.candidates(
        database, "acme", begin, since=SINCE, event_type=None, needles=[needle.encode()], bounds=bounds
    )


def ids(found: Candidates) -> list[str]:
    return [event.id for event, _ in found.events]


async def test_long_payloads_end_a_stretch_before_its_number_of_events(database: Database) -> None:
    await publish(database, [10, 10, LONG, LONG, LONG, LONG, 10])
    first = await looked(database, "there", data_bytes=2 * LONG)
    assert ids(first) == ["e6", "e5", "e4"]
    assert first.down_to is not None
    second = await looked(database, "there", first.down_to, data_bytes=2 * LONG)
    assert ids(second) == ["e3", "e2"]
    assert second.down_to is not None
    third = await looked(database, "there", second.down_to, data_bytes=2 * LONG)
    assert (ids(third), third.down_to) == (["e1", "e0"], None)


async def test_one_payload_that_is_longer_than_a_stretch_is_looked_at_alone(database: Database) -> None:
    await publish(database, [LONG, LONG])
    first = await looked(database, "there", data_bytes=1)
    assert (ids(first), first.down_to is not None) == (["e1"], True)
    assert first.down_to is not None
    second = await looked(database, "there", first.down_to, data_bytes=1)
    assert ids(second) == ["e0"]


@pytest.mark.parametrize("size", [LONG, 4 * LONG, 40 * LONG])
async def test_without_a_hit_it_says_how_far_it_came(database: Database, size: int) -> None:
    await publish(database, [LONG] * 8)
    stretches, begin = 0, BEGIN
    while True:
        found = await looked(database, "nowhere", begin, data_bytes=size)
        stretches += 1
        if found.down_to is None:
            break
        begin = found.down_to
    assert stretches <= -(-8 * LONG // size) + 1
    assert stretches >= 8 * LONG // (size + LONG)
