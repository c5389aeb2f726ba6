"""Warnings about the state of the installation, in sentences: the same for the API and the dashboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from daemon import __version__
from daemon.runtime import program
from daemon.web.http import shapes
from daemon.web.http.services import Services
from eventstore.queries.metrics.status import InstallationStatus, ServerState, ShardStatus

# A shard that lags so much cannot keep up, or is not read at all. A healthy shard lags by less than a second.
LAG_SECONDS = 10.0
# A tick is made within a quarter of a second, and looked for every second.
TICK_SECONDS = 3.0
# Two clocks that are synchronised differ by milliseconds.
SKEW_SECONDS = 2.0
# They are a few hundred. With so many a flush takes 35 ms longer, and with each 100,000 more as much again.
DEAD_ROWS = 100_000
# Vacuum begins at 200 million transactions, which leaves ten times as many.
TRANSACTIONS_LEFT = 300_000_000


def is_healthy(shard: ShardStatus) -> bool:
    """True if somebody delivers for the shard, and keeps up."""
    return shard.owner is not None and shard.lag_seconds <= LAG_SECONDS


def of(found: InstallationStatus, services: Services) -> list[str]:
    """What a person should look at, the most serious first."""
    return list(
        warnings(
            found,
            tick_age_seconds=services.tick_age_seconds(),
            clock_skew_seconds=services.clock_skew_seconds(),
            clock_step_seconds=services.clock_step_seconds(),
            outage=services.outages.warning,
            sealing_fault=services.sealing_fault(),
            stage_faults=services.stage_faults(),
            installed=program.installed_version(),
        )
    )


def warnings(
    found: InstallationStatus,
    *,
    tick_age_seconds: float,
    clock_skew_seconds: float = 0.0,
    clock_step_seconds: float = 0.0,
    outage: str | None = None,
    sealing_fault: str | None = None,
    stage_faults: Sequence[str] = (),
    installed: str = __version__,
) -> Iterator[str]:
    """The sentences of `of`. The seconds, the outage and the faults are those of Services; `installed` is the version
    of the files.
    """
    yield from _of_versions(found, installed)
    if tick_age_seconds > TICK_SECONDS:
        yield (
            f"no tick was made for {tick_age_seconds:.0f} s although events were published, so nothing new is "
            "delivered: see in pg_locks who holds the lock on hookledger.log_lock"
        )
    if outage is not None:
        yield outage
    yield from stage_faults
    for lost in found.lost:
        yield lost.sentence
    if orphans := [shard.shard for shard in found.shards if shard.owner is None]:
        yield f"nobody delivers for {_shards(orphans)}"
    for shard in found.shards:
        if shard.lag_seconds > LAG_SECONDS and shard.owner is not None:
            yield f"{_shards([shard.shard])} is {shard.lag_seconds:.0f} s behind"
    yield from _of_server(found.server)
    yield from found.sources.faults
    if sealing_fault is not None:
        yield sealing_fault
    for process in found.processes:
        if not process.is_alive:
            yield f"process {process.pid} on {process.host} was last seen at {shapes.moment(process.seen_at)}"
    yield from _of_clocks(clock_skew_seconds, clock_step_seconds)


def _of_versions(found: InstallationStatus, installed: str) -> Iterator[str]:
    if installed != __version__:
        yield (
            f"Hookledger {installed} has been installed, and this process still runs {__version__}: restart it, since "
            "a worker or an evaluation of heavy filters that dies is not replaced until then"
        )
    versions = sorted({process.version for process in found.processes if process.is_alive})
    if len(versions) > 1:
        yield f"processes of different versions are running: {', '.join(versions)}"


def _of_server(server: ServerState) -> Iterator[str]:
    if server.transactions_left < TRANSACTIONS_LEFT:
        yield (
            f"PostgreSQL takes no writes after {server.transactions_left:,} more transactions: end old transactions, "
            "prepared ones and unused replication slots, and run VACUUM in each of its databases"
        )
    if server.sorts_otherwise:
        yield (
            "the operating system orders text otherwise than when the indexes were made, so ids may not be found and "
            "events be stored twice: run REINDEX DATABASE, then ALTER DATABASE ... REFRESH COLLATION VERSION"
        )
    if server.dead_rows > DEAD_ROWS:
        yield (
            f"PostgreSQL keeps {server.dead_rows:,} dead rows in a table of 16, so each outcome takes longer to write: "
            "end what may still see them, an old transaction (pg_stat_activity), a prepared one (pg_prepared_xacts), a "
            "replication slot that nobody uses, or turn autovacuum on"
        )


def _of_clocks(skew_seconds: float, step_seconds: float) -> Iterator[str]:
    if step_seconds:
        yield (
            f"the database's clock stepped {_direction(step_seconds)} by {abs(step_seconds):.0f} s within the last hour"
            ": its time synchronisation should slew instead"
        )
    if abs(skew_seconds) > SKEW_SECONDS:
        yield (
            f"the clock of this machine is {abs(skew_seconds):.0f} s {'ahead of' if skew_seconds > 0 else 'behind'} "
            "the database's: synchronise both"
        )


def _direction(step_seconds: float) -> str:
    return "forward" if step_seconds > 0 else "back"


def _shards(numbers: list[int]) -> str:
    return f"shard{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
