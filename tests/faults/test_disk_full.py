"""The disk of PostgreSQL is full: producers are refused, and the daemon resumes by itself once there is space.

One test uses a real disk, which needs the right to mount one. The other runs everywhere: a trigger raises PostgreSQL's
error for a full disk on every insert.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest, system_under_test
from tests.support.postgres.cluster import cluster
from tests.support.processes.disk import NoMounting, SmallDisk, small_disk
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
async def system_on_small_disk(disk: SmallDisk, tmp_path: Path) -> AsyncIterator[SystemUnderTest]:
    directory = disk.path / "data"
    with cluster(directory) as server:
        async with system_under_test(server.url, tmp_path) as it:
            yield it


async def test_a_disk_that_is_really_full(
    disk: SmallDisk, system_on_small_disk: SystemUnderTest, report: FaultReport, is_long: bool
) -> None:
    async def fill() -> None:
        disk.fill()

    async def free() -> None:
        disk.free()

    await _fill_and_free(system_on_small_disk, report, fill, free, rounds=5 if is_long else 1)


async def test_a_database_that_has_no_room_for_a_row(system: SystemUnderTest, report: FaultReport) -> None:
    async def fill() -> None:
        await system.rows(_NO_ROOM)
        for table in TABLES:
            await system.rows(
                f"CREATE TRIGGER no_room BEFORE INSERT ON hookledger.{table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION public.no_room()"
            )

    async def free() -> None:
        for table in TABLES:
            await system.rows(f"DROP TRIGGER no_room ON hookledger.{table}")

    await _fill_and_free(system, report, fill, free, rounds=1)


async def _fill_and_free(
    system: SystemUnderTest,
    report: FaultReport,
    fill: Callable[[], Awaitable[None]],
    free: Callable[[], Awaitable[None]],
    *,
    rounds: int,
) -> None:
    resumed: list[float] = []
    health: list[int | None] = []
    async with system.daemon() as daemon:
        await system.route("/acme")
        system.producer.payload = "x" * 4096
        async with system.producer.load(per_second=200):
            for _ in range(rounds):
                await system.until_more(50)
                await fill()
                refused = len(system.producer.refusals())
                await until(lambda refused=refused: len(system.producer.refusals()) > refused + 4, seconds=30)  # type: ignore[misc] # mypy cannot infer a default
                health.append(await system.status("/healthz"))
                assert daemon.process.poll() is None
                await free()
                free_at = time.monotonic()
                resumed.append((await system.until_more()).at - free_at)
        await system.until_settled()
        assert daemon.process.poll() is None
    report.add_check(await system.check_deliveries())
    report.add("batches that were refused", len(system.producer.refusals()), at_least=5)
    others = [each for each in system.producer.answers if each.status not in (202, 503)]
    report.add("answers other than 202 and 503", len(others), at_most=0)
    report.add("events stored twice", await system.events_stored_twice(), at_most=0)
    report.add("healthz other than 200", sum(status != 200 for status in health), at_most=0)
    report.add_duration("deliveries resume after", max(resumed), within=RESUME_SECONDS)
    report.verify()
