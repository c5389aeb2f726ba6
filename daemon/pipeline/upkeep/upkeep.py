"""Builds the stages of upkeep, the periodic work beside deliveries, and gives their loops to the supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from daemon.core.routing.index import RouteIndex
from daemon.credentials.keys import Keychain
from daemon.pipeline.held_shards import HeldShards
from daemon.pipeline.loops import Loops
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.steady_clock import SteadyClock
from daemon.pipeline.tunables import Tunables
from daemon.pipeline.upkeep.auto_disable import AutoDisable, RouteDisabler
from daemon.pipeline.upkeep.gauges import Gauges
from daemon.pipeline.upkeep.maintenance import Maintenance, MetricsRollup
from daemon.pipeline.upkeep.operational_events import OperationalEvents
from daemon.pipeline.upkeep.quiet_time import QuietTime
from daemon.pipeline.upkeep.sealing import Sealing, SealSettings
from daemon.pipeline.upkeep.watches.clock_watch import ClockWatch
from daemon.pipeline.upkeep.watches.health_watch import HealthWatch
from daemon.pipeline.upkeep.watches.server_watch import ServerWatch
from daemon.pipeline.upkeep.watches.tick_watch import TickWatch
from daemon.sealing.sealer import Sealer
from daemon.telemetry.metrics import Metrics
from eventstore.postgres.connect import Database
from eventstore.progress.steady_time import TimedReading
from eventstore.retention.retention import Keep


class Upkeep:
    """Builds the stages of this folder. Without `auto_disable_after` no route is disabled for failing long, and without
    `seals` nothing is sealed.
    """

    def __init__(  # noqa: PLR0913 - what the stages are built of
        self,
        database: Database,
        index: RouteIndex,
        lanes: Lanes,
        shards: HeldShards,
        keychain: Keychain,
        route_disabler: RouteDisabler,
        metrics: Metrics,
        clock: SteadyClock,
        *,
        owner: str,
        polled_at: Callable[[], float],
        clock_reading: Callable[[], TimedReading | None],
        auto_disable_after: timedelta | None,
        seals: SealSettings | None,
        operational_events: OperationalEvents | None,
        keep: Keep,
        needs_durability: bool,
        tunables: Tunables,
    ) -> None:
        self._keychain = keychain
        self._idle_secret_seconds = tunables.idle_secret_seconds
        self.quiet_time = QuietTime(database)
        self.gauges = Gauges(database, index, lanes, metrics, shards=shards, quiet_time=self.quiet_time)
        self.tick_watch = TickWatch(database, metrics, polled_at=polled_at)
        self.maintenance = Maintenance(database, keep, keychain.log_macs, tunables)
        self.server_watch = ServerWatch(database, tunables, needs_durability=needs_durability)
        self.clock_watch = ClockWatch(database, clock, metrics, owner=owner, tunables=tunables, latest=clock_reading)
        self.clock_watch.on_step = self.maintenance.hurry
        self.health_watch = HealthWatch(database, index, lanes, shards, tunables)
        self.metrics_rollup = MetricsRollup(database, tunables)
        self.loops: Loops = {
            "keychain": self._forget_idle_secrets,
            "tick watch": self.tick_watch.run_once,
            "clock watch": self.clock_watch.run_once,
            "server watch": self.server_watch.run_once,
            "maintenance": self.maintenance.run_once,
            "metrics rollup": self.metrics_rollup.run_once,
            "route disabler": route_disabler.run_once,
            "gauges": self.gauges.run_once,
            "quiet time": self.quiet_time.run_once,
            "loop lag": self.gauges.probe_once,
            "health watch": self.health_watch.run_once,
        }
        self.sealing: Sealing | None = None
        if seals is not None:
            sealer = Sealer(database, keychain.seal_keys, seals.former_keys)
            on_sealed = None if operational_events is None else operational_events.sealed
            self.sealing = Sealing(sealer, seals, metrics, on_sealed=on_sealed)
            self.loops["sealing"] = self.sealing.run_once
        if operational_events is not None:
            self.health_watch.on_turn = operational_events.turned
            self.loops["operational events"] = operational_events.run_once
        if auto_disable_after is not None:
            self.loops["auto disable"] = AutoDisable(
                database, index, route_disabler, after=auto_disable_after, shards=shards, tunables=tunables
            ).run_once

    async def _forget_idle_secrets(self) -> None:
        await asyncio.sleep(self._idle_secret_seconds)
        self._keychain.age()
