"""After a group of tasks failed, the task that waited for it can go on: its deadlines are deadlines."""

from __future__ import annotations

import asyncio

import pytest

from daemon.tasks import TaskGroup


async def _fail() -> None:
    raise OSError


async def _fail_later() -> None:
    await asyncio.sleep(0)
    raise OSError


def _requests() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


@pytest.mark.parametrize("count", [1, 2])
async def test_a_group_that_failed_leaves_no_request_to_cancel(count: int) -> None:
    with pytest.raises(ExceptionGroup) as failed:
        async with TaskGroup() as group:
            for _ in range(count):
                group.create_task(_fail_later())
    assert all(isinstance(each, OSError) for each in failed.value.exceptions)
    assert _requests() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.sleep(60)


async def test_a_group_that_fails_while_its_body_waits_leaves_none_either() -> None:
    with pytest.raises(ExceptionGroup):
        async with TaskGroup() as group:
            group.create_task(_fail())
            await asyncio.sleep(60)
    assert _requests() == 0


async def test_what_others_ask_of_the_task_is_still_asked() -> None:
    found: list[int] = []

    async def wait() -> None:
        try:
            async with TaskGroup() as group:
                group.create_task(_stubborn())
        except ExceptionGroup:
            found.append(_requests())

    async def _stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise OSError from None

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await waiting
    assert found == [1]
