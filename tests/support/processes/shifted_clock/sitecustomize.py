"""A wall clock that can be moved, for a process that has this directory on its PYTHONPATH.

Python imports this module before any other, so all code of the process gets the moved time. SHIFTED_CLOCK names the file
with the shift in seconds: eight bytes that the test and this process map. The monotonic clock is not moved, as setting
the system's time does not move it either. All results are true `datetime` objects; only the class is replaced.
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
    def __new__(cls, *arguments: int, **more: int) -> dt.datetime:  # type: ignore[misc] # returns a true datetime, on purpose
        return _true_datetime(*arguments, **more)  # type: ignore[arg-type] # the arguments of datetime

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override] # not of this class
        return _true_datetime.now(tz) + dt.timedelta(seconds=_seconds())

    @classmethod
    def utcnow(cls) -> dt.datetime:  # type: ignore[override] # not of this class
        return _true_datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(seconds=_seconds())


dt.datetime = _Shifted  # type: ignore[misc, assignment] # for every import from here on
time.time = lambda: _true_time() + _seconds()
time.time_ns = lambda: _true_time_ns() + int(_seconds() * 1_000_000_000)
