"""A wall clock that can be moved, for a process that has this directory on its PYTHONPATH.

Python runs this before anything else, so whoever asks for the time gets the moved one. By how much stands in the file
that SHIFTED_CLOCK names, eight bytes in memory that both sides map. The monotonic clock is left alone, as the system
leaves it alone when somebody sets the time. Everything that comes out is a true `datetime`: only the class that is
asked is another one.
"""

from __future__ import annotations

import datetime as dt
import mmap
import os
import struct
import time
from pathlib import Path

_true_datetime = dt.datetime
_true_time, _true_time_ns = time.time, time.time_ns

with Path(os.environ["SHIFTED_CLOCK"]).open("rb") as _file:
    _shift = mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)


def _seconds() -> float:
    seconds: float = struct.unpack("d", _shift[:8])[0]
    return seconds


class _Passing(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _true_datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _true_datetime)


class _Shifted(_true_datetime, metaclass=_Passing):
    def __new__(cls, *arguments: int, **more: int) -> dt.datetime:  # type: ignore[misc] # a true one, on purpose
        return _true_datetime(*arguments, **more)  # type: ignore[arg-type] # whatever a datetime takes

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override] # not of this class
        return _true_datetime.now(tz) + dt.timedelta(seconds=_seconds())

    @classmethod
    def utcnow(cls) -> dt.datetime:  # type: ignore[override] # not of this class
        return _true_datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(seconds=_seconds())


dt.datetime = _Shifted  # type: ignore[misc, assignment] # for everybody who imports it from here on
time.time = lambda: _true_time() + _seconds()
time.time_ns = lambda: _true_time_ns() + int(_seconds() * 1_000_000_000)
