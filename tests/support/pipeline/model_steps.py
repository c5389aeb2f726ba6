"""What may happen in a sequence of tests/pipeline/test_model.py, and the sizes that make little be much."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from daemon.core.delivery.retry import RetryPolicy
from daemon.pipeline.tunables import Tunables
from tests.support.pipeline.model_check import ATTEMPTS, Mode

ROUTES = 2

QUICK = RetryPolicy(first=timedelta(seconds=0.03), factor=1.5, cap=timedelta(seconds=0.1), attempts=ATTEMPTS)
# So small that a handful of events fills queues, pages and ranges.
SMALL = Tunables(
    max_pairs=12,
    aside_seconds=0.05,
    ahead_pairs=6,
    lane_queue=3,
    unmeasured_lane_queue=3,
    max_queued_seconds=0.6,
    low_water=2,
    range_pairs=5,
    sweep_seconds=0.03,
    parking_pause_seconds=0.005,
    persist_seconds=0.3,
    chunk_events=2,
    crowded_events=12,
    look_again_seconds=0.1,
    expand_pairs=3,
    expand_ticks=2,
    retry_poll_seconds=0.1,
    retry_route_limit=3,
    retry_page_rows=2,
    retry_held_limit=5,
    flush_seconds=0.01,
    flush_rows=4,
    checkpoint_seconds=0.01,
    breaker_first_pause_seconds=0.05,
    breaker_longest_pause_seconds=0.1,
    lease_renew_seconds=0.2,
)
OPTIONS = {
    "timeout_seconds": 60.0,
    "concurrency": 6,
    "route_concurrency": 3,
    "breaker_failures": 3,
    "retry": QUICK,
    "tunables": SMALL,
}


class Publish(NamedTuple):
    events: int


class Answer(NamedTuple):
    route: int
    mode: Mode


class Order(NamedTuple):
    route: int
    is_ordered: bool


class Disable(NamedTuple):
    route: int


class Enable(NamedTuple):
    route: int


class Join(NamedTuple):
    """Another process starts, unless there are two."""


class Leave(NamedTuple):
    """A process stops cleanly. What it has under way it finishes later."""

    oldest: bool


class Crash(NamedTuple):
    """A process dies. Its leases, and its right to record late, are over at once."""

    oldest: bool


class Pause(NamedTuple):
    """Things go on for a while."""

    milliseconds: int


Step = Publish | Answer | Order | Disable | Enable | Join | Leave | Crash | Pause
