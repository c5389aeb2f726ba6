"""The resources that processes use, read from /proc; so these benchmarks need Linux.

A cluster is the postmaster and all its children. The kernel adds the time of ended children to the postmaster.
"""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name, which may contain spaces: parent, own times, times of ended children.
_PARENT, _OWN, _CHILDREN = 1, slice(11, 13), slice(13, 15)


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    return sum(map(int, _stat(pid)[_OWN])) / _TICKS_PER_SECOND


def parent(pid: int) -> int:
    return int(_stat(pid)[_PARENT])


def family_cpu_seconds(pid: int) -> float:
    """The CPU time of a process and its children, ended ones included."""
    total = cpu_seconds(pid) + sum(map(int, _stat(pid)[_CHILDREN])) / _TICKS_PER_SECOND
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            total += cpu_seconds(int(child))
        except (FileNotFoundError, ProcessLookupError):  # it has ended since; a few ticks are missed
            continue
    return total


def rss_bytes(pid: int) -> int:
    return int(_status(pid)["VmRSS"].split()[0]) * 1024


def family_rss_bytes(pid: int) -> int:
    """The resident memory of a process and its children. What they share counts for each."""
    return sum(rss_bytes(each) for each in family(pid))


def pss_bytes(pid: int) -> int:
    """The memory of a process, and its part of what it shares with others. Sums of it count nothing twice."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def family_files(pid: int) -> int:
    """The open files of a process and its children."""
    return sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in family(pid))


def peak_rss_bytes(pid: int) -> int:
    return int(_status(pid)["VmHWM"].split()[0]) * 1024


def wake_ups(pid: int) -> int:
    """The voluntary context switches of the main thread."""
    return int(_status(pid)["voluntary_ctxt_switches"])


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
