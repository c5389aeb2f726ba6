"""asyncio's task group, whose waiting task can be used on after a failure: its deadlines and cancels still work.

The one thing to know: such a group cancels the task that waits for it, and before Python 3.13 it does not take that
request back if it was waiting already. With 3.11.2 each later `asyncio.timeout` of that task then raises CancelledError
instead of TimeoutError. So a task that goes on after the failure, to try again or to close what it has opened, ends at
its next deadline without a word.

Nor does it say before 3.13 that somebody else has cancelled the task meanwhile, while the others were ending: the task
gets the failures of the group, goes on, and is never cancelled. Here it is cancelled, and the failures are the cause.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

# What helps where no thread can be started. The system does not say which limit it was.
MORE_THREADS = (
    "allow more threads and memory: ulimit -u and -v in the shell, TasksMax in the unit of systemd, the limits of the "
    "container"
)

_TAKES_BACK = sys.version_info >= (3, 13)


class TaskGroup(asyncio.TaskGroup):
    """Raises ExceptionGroup as asyncio's does; CancelledError if others cancelled the task within it."""

    async def __aenter__(self) -> Self:
        self._requests_before = _requests()
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        is_taken_back = _TAKES_BACK or self._has_asked
        try:
            await super().__aexit__(kind, error, traceback)
        except BaseExceptionGroup as failed:
            task = asyncio.current_task()
            if task is not None and self._has_asked and not is_taken_back:
                task.uncancel()
            if not _TAKES_BACK and _requests() > self._requests_before:
                raise asyncio.CancelledError from failed
            raise

    @property
    def _has_asked(self) -> bool:
        """Whether the group cancelled the task that waits for it. The library keeps that to itself; a test holds it."""
        return bool(getattr(self, "_parent_cancel_requested", False))


async def to_its_end(awaited: Coroutine[object, object, T]) -> T:
    """Waits for what is about to end, such as a process that was killed, also if this task is cancelled meanwhile. Then
    CancelledError is raised once it has ended.

    Who clears up in a `finally` is cancelled there if another task of their group fails at that moment.
    """
    ending = asyncio.ensure_future(awaited)
    cancelled: asyncio.CancelledError | None = None
    while not ending.done():
        try:
            await asyncio.wait([ending])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return ending.result()


def is_lack_of_threads(error: BaseException) -> bool:
    """Whether a thread could not be started. Python has no class of its own for it."""
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def _requests() -> int:
    """How often the current task was asked to cancel, and goes on."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
