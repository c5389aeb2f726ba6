"""Sizes, limits and times of the pipeline that no operator sets: one value, handed to every stage.

Tests hand in other values; nothing patches them. What an operator sets is in `daemon.config`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from daemon.core.webhook.expression import StepAllowance


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunables:
    """Counts, bytes and seconds as named. `DEFAULTS` is what the daemon runs with."""

    # Memory: daemon/pipeline/scheduling/ledger.
    #
    # Deliveries that may be unaccounted at once. A fifth of a second of work on a fast machine and a second on a slow
    # one: enough to keep every connection busy until the next page is decided, and not so much that the last one waits
    # long enough to be parked.
    max_pairs: int = 800
    max_bytes: int = 64 * 1024 * 1024
    # A full ledger has room again only below this part of either, so that the tailer wakes up for many deliveries.
    room_part: float = 0.75
    # One shard takes no more than this part of what the others leave: nearly all while they have nothing, and half each
    # if two want all. What is left over lets the others begin. The second part of the ledger it may have in any case,
    # lest shards that are equally busy are told apart. One with less than the third part goes on although the ledger is
    # full: one event for a thousand routes fills it, and would hold up everybody else's.
    shard_part: float = 0.9
    least_shard_part: float = 0.125
    light_shard_part: float = 1 / 32
    # A tenant that has most of a shard which is left behind, and full, for so long is set aside: its events are read
    # apart from those of its shard. So many tenants at a time; and a shard that is so many pairs ahead of one of them
    # waits, since its next owner reads again what was decided meanwhile.
    aside_seconds: float = 1.0
    aside_tenants: int = 8
    ahead_pairs: int = 50_000

    # Intake: daemon/pipeline/intake.
    #
    # The tailer lets others work after this time. With 5 ms a busy loop left it so few turns that the lanes ran dry.
    yield_seconds: float = 0.01
    # Steps of all filters of one event, and bytes of the event, that are spent on the event loop (about 2 ms). An event
    # that takes more is decided later by a process of its own, and so are the events of its tenant that come after it.
    loop_steps: int = 2000
    loop_document_bytes: int = 32 * 1024
    # A request for which an event is judged or a body rendered waits so long for that process.
    judge_seconds: float = 10.0
    # So many tenants have an event decided in that process at a time. They take turns there, and one that finds no room
    # in memory within the second time leaves its turn to the others.
    deferring_tenants: int = 8
    room_seconds: float = 0.02
    # A shard with more deferred events is not read further until they are fewer; each takes 200 bytes of memory.
    deferred_of_shard: int = 5000
    # With so many, which only a huge tick has, nothing is read.
    deferred_events: int = 100_000

    # What is kept for those who follow events (daemon/pipeline/intake/event_feed): more ticks than are made while one
    # request waits, and a tick with more bytes than that is left to each of them.
    fed_ticks: int = 4096
    fed_bytes: int = 16 * 1024 * 1024
    fed_tick_bytes: int = 1024 * 1024

    # Lanes: daemon/pipeline/scheduling/lanes.
    #
    # A lane may queue what it gets rid of in this time, by its present rate, but never less than `lane_queue`. More of
    # one route in memory serves nobody: it is parked, and memory is left to the others.
    max_queued_seconds: float = 2.0
    lane_queue: int = 500
    # A lane whose rate was not measured yet.
    unmeasured_lane_queue: int = 2000
    # A parking lane with fewer deliveries in memory has room for the next chunk.
    low_water: int = 100
    # A lane with nothing to do is forgotten after this time, one that has learned that its receiver is slow or failing
    # after the second: the longest pause of a retry is shorter, so that failures of a quiet route still add up.
    idle_lane_seconds: float = 300.0
    learned_lane_seconds: float = 7200.0
    # Once a lane has so many parked deliveries, the rest is a range of ticks instead of a list (backlog.ranges).
    range_pairs: int = 100_000

    # Parking: daemon/pipeline/backlog/parking.
    #
    sweep_seconds: float = 0.25
    # Between two looks at the tables, however fast a lane is drained.
    parking_pause_seconds: float = 0.02
    # A request that takes longer gets a row in `retry`, so that the checkpoint need not wait for it.
    persist_seconds: float = 1.0
    chunk_events: int = 200
    # With so many deliveries in memory, lanes are drained one delivery at a time, so that thousands of lanes that
    # recover together do not fill it.
    crowded_events: int = 20_000
    # An ordered lane that waits for a retry looks again whether it is still there: it may be suppressed or expired.
    look_again_seconds: float = 1.0
    # So many of those retries are known at a time, the first ones: a route may have hundreds of thousands.
    failing_positions: int = 1000
    # Between two looks at the ranges, lest they outlive their events.
    age_seconds: float = 600.0

    # Ranges: daemon/pipeline/backlog/ranges. At a time, whichever is first: enough to keep a lane busy, and not so
    # much that other ranges wait for their turn, or the flush that writes it for a lease.
    expand_pairs: int = 2000
    expand_events: int = 5000
    expand_ticks: int = 100
    # No event is decided after this time, which filters may take.
    expand_seconds: float = 0.25
    # For so many routes the size of the tick that is being written out is kept.
    open_cuts: int = 1000
    # A range is written out so long before retention drops the events that it is decided from.
    range_spare_time: timedelta = timedelta(days=1)

    # Retries: daemon/pipeline/backlog/retrier.
    #
    # The writer of an earlier retry says so; this is for one that was not heard of. The second one while none waits,
    # and this process has recorded nothing since.
    retry_poll_seconds: float = 2.0
    retry_empty_seconds: float = 10.0
    # Not more of one route at a time, so that ten thousand retries of a dead route leave room for others.
    retry_route_limit: int = 64
    retry_page_rows: int = 500
    # Not more in memory altogether, and of these no more than half of receivers that are slow, and half of routes that
    # are ordered; but of each ordered route the first one. Not more bytes than `max_bytes` either, but for one of each
    # route.
    retry_held_limit: int = 4000
    # No tenant has more than this part of the places that the others leave, but as many as one of its routes may have.
    retry_tenant_part: float = 0.75
    # A route with a rate has no more in memory than it may send in this time, which is longer than until the next look;
    # the same holds for what is parked.
    paced_seconds: float = 4.0

    # Replays: daemon/pipeline/backlog/replayer.
    #
    replay_part_seqs: int = 500
    # No part is scheduled while more of a replay than this waits, less a part.
    replay_waiting_rows: int = 1000
    replay_pause_seconds: float = 0.1

    # A key or header value that was not used for this time, or twice as long, is forgotten (daemon/credentials/keys).
    idle_secret_seconds: float = 300.0

    # Recording: daemon/pipeline/recording/recorder. A flush after this time or so many rows, whichever is first.
    flush_seconds: float = 0.05
    flush_rows: int = 500
    # A flush of nothing but checkpoints waits so long for rows: each tick moves those of all shards, and most have no
    # event in it.
    checkpoint_seconds: float = 0.25

    # The breaker's pauses: daemon/core/delivery/breaker.
    #
    breaker_first_pause_seconds: float = 1.0
    breaker_longest_pause_seconds: float = 30.0

    # Leases: daemon/pipeline/shards/leases.
    #
    lease_renew_seconds: float = 2.0
    # A lease counts as ours for its time to live less this, so that a clock that runs fast does no harm.
    lease_margin_seconds: float = 1.0

    # Lifelines: daemon/pipeline/shards/lifelines. Often enough that a permit of a second does not run out in between.
    # The second one while nothing happens.
    probe_seconds: float = 0.5
    quiet_probe_seconds: float = 0.75
    # A permit ends so much earlier for its process, whose loop may run late between the check and the request, and so
    # much later for the others.
    permit_margin_seconds: float = 0.1
    # Nobody is found dead before we had our own lifeline back for so long: what ended it may have ended all. The pauses
    # of a process that tries to come back are shorter than this (daemon/pipeline/loops), and it has to connect.
    lifeline_return_seconds: float = 3.0

    # Clocks: daemon/pipeline/steady_clock, upkeep/watches/clock_watch. A difference of more than this is a step, or
    # told as skew.
    clock_step_seconds: float = 1.0
    clock_look_seconds: float = 0.85

    # Sources: daemon/sources.
    #
    # A batch: large enough to be worth its transaction, small enough that it takes a fraction of a second.
    source_batch_messages: int = 1000
    source_batch_bytes: int = 1 << 20
    # Expressions may take long. What is made of a partition is stored after so much time; and after the second one the
    # rest is left to the next turn, lest the group takes the process for dead, or a stop has to wait.
    source_batch_seconds: float = 1.0
    source_take_seconds: float = 5.0
    # A turn ends at least so often, for a stop; what others are told, and what changed, is looked at less often.
    source_turn_seconds: float = 1.0
    source_report_seconds: float = 5.0
    source_reconnect_seconds: float = 5.0
    # Without an answer of any broker for so long, they are called away. One answers a fetch of nothing within 2 s.
    source_silent_seconds: float = 15.0

    # Upkeep: daemon/pipeline/upkeep.
    #
    partition_seconds: float = 300.0
    # How often to look whether another server was promoted, and for what else no statement tells.
    server_look_seconds: float = 15.0
    add_up_seconds: float = 10.0
    auto_disable_least_seconds: float = 0.2
    auto_disable_most_seconds: float = 60.0
    operations_pause_seconds: float = 2.0
    # At most one operational event of failed deliveries in this time for each webhook.
    operations_webhook_seconds: float = 60.0
    # At most one of refused messages in this time for each source.
    operations_source_seconds: float = 60.0
    # The health of receivers is written after such a pause, and looked at at least so often; of a receiver that is well
    # no more often than after the last of these times.
    health_pause_seconds: float = 0.5
    health_look_seconds: float = 5.0
    health_told_seconds: float = 30.0

    def loop_allowance(self) -> StepAllowance:
        """What the event loop spends on the expressions of one event."""
        return StepAllowance(steps=self.loop_steps, document_bytes=self.loop_document_bytes)


DEFAULTS = Tunables()
