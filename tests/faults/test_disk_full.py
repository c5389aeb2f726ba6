"""The disk of PostgreSQL is full: producers are refused, and all goes on by itself once there is room.

Once with a real disk, which needs the right to mount one; and once, wherever the tests run, with a PostgreSQL that
answers to each row to be stored what it would answer then.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.cluster import cluster
from tests.support.disk import NoMounting, SmallDisk, small_disk
from tests.support.figures import Figures
from tests.support.stage import Stage, stage
from tests.support.until import until

RESUME_SECONDS = 5
TABLES = ("domain_event", "attempt")

_NO_ROOM = """
CREATE FUNCTION public.no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE disk_full USING MESSAGE = 'could not extend file "base/5/16384": No space left on device';
END $$
"""


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    try:
        with small_disk() as it:
            yield it
    except NoMounting as error:
        pytest.skip(f"a disk that is really full needs the right to mount one: {error}")


@pytest_asyncio.fixture
async def ground_on_disk(disk: SmallDisk, tmp_path: Path) -> AsyncIterator[Stage]:
    directory = disk.path / "data"
    with cluster(directory) as server:
        async with stage(server.url, tmp_path) as it:
            yield it


async def test_a_disk_that_is_really_full(
    disk: SmallDisk, ground_on_disk: Stage, figures: Figures, is_long: bool
) -> None:
    async def fill() -> None:
        disk.fill()

    async def free() -> None:
        disk.free()

    await _fill_and_free(ground_on_disk, figures, fill, free, rounds=5 if is_long else 1)


async def test_a_database_that_has_no_room_for_a_row(ground: Stage, figures: Figures) -> None:
    async def fill() -> None:
        await ground.rows(_NO_ROOM)
        for table in TABLES:
            await ground.rows(
                f"CREATE TRIGGER no_room BEFORE INSERT ON hookledger.{table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION public.no_room()"
            )

    async def free() -> None:
        for table in TABLES:
            await ground.rows(f"DROP TRIGGER no_room ON hookledger.{table}")

    await _fill_and_free(ground, figures, fill, free, rounds=1)


async def _fill_and_free(
    ground: Stage,
    figures: Figures,
    fill: Callable[[], Awaitable[None]],
    free: Callable[[], Awaitable[None]],
    *,
    rounds: int,
) -> None:
    resumed: list[float] = []
    health: list[int | None] = []
    async with ground.daemon() as daemon:
        await ground.route("/acme")
        ground.producer.payload = "x" * 4096
        async with ground.producer.load(per_second=200):
            for _ in range(rounds):
                await ground.until_more(50)
                await fill()
                refused = len(ground.producer.refusals())
                await until(lambda refused=refused: len(ground.producer.refusals()) > refused + 4, seconds=30)  # type: ignore[misc] # mypy cannot infer a default
                health.append(await ground.status("/healthz"))
                assert daemon.process.poll() is None
                await free()
                free_at = time.monotonic()
                resumed.append((await ground.until_more()).at - free_at)
        await ground.until_settled()
        assert daemon.process.poll() is None
    figures.reckon(await ground.reckoning())
    figures.say("batches that were refused", len(ground.producer.refusals()), at_least=5)
    others = [each for each in ground.producer.answers if each.status not in (202, 503)]
    figures.say("answers other than 202 and 503", len(others), at_most=0)
    figures.say("events stored twice", await ground.events_stored_twice(), at_most=0)
    figures.say("healthz other than 200", sum(status != 200 for status in health), at_most=0)
    figures.time("deliveries resume after", max(resumed), within=RESUME_SECONDS)
    figures.hold()
