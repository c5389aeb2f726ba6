"""Warnings about the state of the installation, in sentences: the same for the API and the dashboard."""

from __future__ import annotations

from collections.abc import Iterator

from daemon.web.http import shapes
from eventstore.queries.status import InstallationStatus

# A shard that lags so much cannot keep up, or is not read at all. A healthy shard lags by less than a second.
LAG_SECONDS = 10.0
# A tick is made within a quarter of a second, and looked for every second.
TICK_SECONDS = 3.0


def warnings(found: InstallationStatus, *, tick_age_seconds: float) -> Iterator[str]:
    """What a person should look at, the most serious first. `tick_age_seconds`: how long events wait for a tick."""
    if tick_age_seconds > TICK_SECONDS:
        yield (
            f"no tick was made for {tick_age_seconds:.0f} s although events were published, so nothing new is "
            "delivered: see in pg_locks who holds the lock on hookledger.log_lock"
        )
    for lost in found.lost:
        yield lost.sentence
    if orphans := [shard.shard for shard in found.shards if shard.owner is None]:
        yield f"nobody delivers for {_shards(orphans)}"
    for shard in found.shards:
        if shard.lag_seconds > LAG_SECONDS and shard.owner is not None:
            yield f"{_shards([shard.shard])} is {shard.lag_seconds:.0f} s behind"
    for process in found.processes:
        if not process.is_alive:
            yield f"process {process.pid} on {process.host} was last seen at {shapes.moment(process.seen_at)}"
    versions = sorted({process.version for process in found.processes if process.is_alive})
    if len(versions) > 1:
        yield f"processes of different versions are running: {', '.join(versions)}"


def _shards(numbers: list[int]) -> str:
    return f"shard{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
