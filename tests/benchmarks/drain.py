"""What deliveries cost, from the first that is due to the last that is accounted for: time, CPU, write-ahead log."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.benchmarks import meter
from tests.benchmarks.receivers import Receivers
from tests.benchmarks.results import BenchmarkResult
from tests.benchmarks.workload import Workload

_WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS bytes"

# A second for each so many deliveries is more than enough, and does not hang for ever.
_SLOWEST_PER_SECOND = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """Deliveries, and what they took in all. CPU is that of the daemon with its workers, and of PostgreSQL."""

    deliveries: int
    seconds: float
    daemon_cpu_seconds: float
    cluster_cpu_seconds: float
    wal_bytes: int

    @property
    def cpu_ms(self) -> float:
        """CPU time of a delivery."""
        return (self.daemon_cpu_seconds + self.cluster_cpu_seconds) * 1000 / self.deliveries

    def results(self, name: str) -> list[BenchmarkResult]:
        daemon, cluster = (
            seconds * 1000 / self.deliveries for seconds in (self.daemon_cpu_seconds, self.cluster_cpu_seconds)
        )
        return [
            BenchmarkResult(name=f"{name}: deliveries", value=self.deliveries / self.seconds, unit="/s"),
            BenchmarkResult(name=f"{name}: daemon, a delivery", value=daemon, unit="ms cpu"),
            BenchmarkResult(name=f"{name}: its PostgreSQL, a delivery", value=cluster, unit="ms cpu"),
            BenchmarkResult(
                name=f"{name}: write-ahead log, a delivery", value=self.wal_bytes / self.deliveries, unit="B"
            ),
        ]


async def drained(
    it: Workload, remote: Receivers, pid: int, *, deliveries: int, begin: Callable[[], Awaitable[None]] | None = None
) -> Drained:
    """Awaits `begin` if it is given, and then `deliveries` arrivals at live receivers with everything accounted for."""
    postmaster = meter.parent((await it.process.rows("SELECT pg_backend_pid() AS pid"))[0]["pid"])
    seconds = 30 + deliveries / _SLOWEST_PER_SECOND
    accepted = remote.accepted() if begin is not None else 0
    before = meter.family_cpu_seconds(pid), meter.family_cpu_seconds(postmaster), await _wal(it)
    started = time.monotonic()
    if begin is not None:
        await begin()
    await remote.until_accepted(accepted + deliveries, seconds=seconds)
    await it.process.until_accounted(seconds=seconds)
    taken = time.monotonic() - started
    after = meter.family_cpu_seconds(pid), meter.family_cpu_seconds(postmaster), await _wal(it)
    remote.arrivals()  # frees the memory of the receiver
    return Drained(
        deliveries=deliveries,
        seconds=taken,
        daemon_cpu_seconds=after[0] - before[0],
        cluster_cpu_seconds=after[1] - before[1],
        wal_bytes=after[2] - before[2],
    )


async def _wal(it: Workload) -> int:
    return int((await it.process.rows(_WAL))[0]["bytes"])
