"""After a group of tasks failed, the task that waited for it can go on: its deadlines are deadlines."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from daemon.runtime.tasks import TaskGroup, to_its_end


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


async def _stubborn() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise OSError from None


async def test_a_cancel_by_others_is_one_although_the_group_fails() -> None:
    async def wait() -> None:
        with suppress(ExceptionGroup):
            async with TaskGroup() as group:
                group.create_task(_stubborn())
        await asyncio.sleep(0)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()


async def test_a_cancel_by_others_is_one_while_the_rest_of_a_group_that_failed_is_ending() -> None:
    is_ending, may_end = asyncio.Event(), asyncio.Event()

    async def end_late() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            is_ending.set()
            await may_end.wait()

    async def wait() -> None:
        with suppress(ExceptionGroup):
            async with TaskGroup() as group:
                group.create_task(end_late())
                group.create_task(_fail_later())
        await asyncio.sleep(0)

    waiting = asyncio.create_task(wait())
    await is_ending.wait()
    waiting.cancel()
    may_end.set()
    await asyncio.wait({waiting})
    assert waiting.cancelled()


async def test_a_deadline_around_a_group_that_fails_is_one() -> None:
    with suppress(ExceptionGroup, TimeoutError):  # the first from Python 3.13 on
        async with asyncio.timeout(0.01), TaskGroup() as group:
            group.create_task(_stubborn())
    assert _requests() == 0
    await asyncio.sleep(0)


@pytest.mark.parametrize("cancels", [1, 3])
async def test_who_is_cancelled_while_something_ends_waits_for_the_end(cancels: int) -> None:
    begun, gate, told = asyncio.Event(), asyncio.Event(), []

    async def end() -> int:
        begun.set()
        await gate.wait()
        told.append("ended")
        return 9

    task = asyncio.ensure_future(to_its_end(end()))
    await begun.wait()
    for _ in range(cancels):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == ["ended"]


async def test_who_is_not_cancelled_gets_what_ended_or_its_failure() -> None:
    async def nine() -> int:
        return 9

    assert await to_its_end(nine()) == 9
    with pytest.raises(OSError):  # noqa: PT011 - any of _fail
        await to_its_end(_fail())
