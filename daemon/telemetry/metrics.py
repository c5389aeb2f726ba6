"""The metrics of a daemon. Dashboards and alerts rely on their names.

No metric has a tenant, route or URL label, because the number of series must not grow with the number of customers.
Sources, which the configuration names, are few.
On the hot path numbers are only noted, and `add_up` gives them to the library's metrics: at each flush of outcomes, and
before each exposition. That takes less than half the time of the library's own metrics, with their locks and buckets.
Expected label values begin with 0, so that an alert on a rate sees the first increment. Test events are not traffic:
decisions, attempts and latencies leave them out. Only the gauges of pending and in-flight deliveries count them, since
test events take up capacity like others.

With several workers, each worker exposes the sum over all of them. The values are in files of one directory, one set
for each worker number. A worker that replaces a dead one continues its counters; the gauges of the dead one are
removed. A sum is right for values that each worker has of its own, such as requests under way or shards. A value that
is the same for all, such as the number of routes, is set by one worker only, see `sets_shared_gauges`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from bisect import bisect_right
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, values
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from daemon import __version__
from daemon.core.delivery.answer import status_class
from daemon.core.routing.decision import Decision
from daemon.core.webhook.addresses import DenyReason
from daemon.core.webhook.payload import FilterResult

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

GAUGE_MODE: Final = "livesum"
_SECOND = timedelta(seconds=1)
# A worker's files and their size. They are mapped into memory, so they are written in full first: a page for which a
# full disk has no space would kill the process.
FILES = ("counter", "histogram", f"gauge_{GAUGE_MODE}")
FILE_BYTES = 128 * 1024

OVER_BUDGET = ("filter", "render")
RESULTS = ("accepted", "duplicate", "rejected")
SOURCE_RESULTS = ("event", "repeated", "refused", "filtered", "absent")
# Who is at the other end of a connection.
CLIENTS, RECEIVERS = SIDES = ("clients", "receivers")
QUERY_LIMITS = ("tenant", "all")
CREDENTIALS = ("api_token", "login_link", "session")

SPAN_RESULTS = ("sent", "lost", "left_out")
USUAL_ATTEMPTS = (
    ("delivered", "2xx"),
    *((outcome, status) for outcome in ("retrying", "failed") for status in ("3xx", "4xx", "5xx", "none")),
)

# In seconds. A webhook takes from a millisecond on the same machine to the default timeout of 15 s; a retry schedule
# takes hours.
ATTEMPT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 600, 3600)
FLUSH_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3)
EXPRESSION_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Metrics:
    """One registry, with an attribute for each metric. `worker` is this worker's number, None for a single process."""

    def __init__(self, *, worker: int | None = None) -> None:
        self.registry = CollectorRegistry()
        self._directory = None if worker is None else Path(os.environ[DIRECTORY_VARIABLE])
        self._shared_lock: int | None = None
        if worker is not None and self._directory is not None:
            _use_worker_files(worker, self._directory)
        self.events_published = self._counter(
            "events_published", "Events taken over HTTP and from sources, by result", "result"
        )
        self.decisions = self._counter("decisions", "Events × routes that ever subscribed to their type", "decision")
        self.attempts = self._counter("attempts", "Outcomes of attempts", "outcome", "status_class")
        self.queries_refused = self._counter(
            "queries_refused", "Queries refused since too many ran at once, by whose limit it was", "limit"
        )
        self.requests_unavailable = self._counter(
            "requests_unavailable", "Requests answered 503 since PostgreSQL did not do what they needed"
        )
        self.forged_credentials = self._counter(
            "forged_credentials", "Tokens, sessions and login links shown that were not made by us", "kind"
        )
        self.clock_steps = self._counter("clock_steps", "Steps of the database's clock that this process noticed")
        self.egress_denied = self._counter("egress_denied", "Targets refused, by reason", "reason")
        self.database_went_back = self._counter(
            "database_went_back", "Times that a promoted standby had not received everything"
        )
        self.source_messages = self._counter(
            "source_messages", "Offsets taken of sources, by what stood there", "source", "result"
        )
        self.log_lines_dropped = self._counter("log_lines_dropped", "Lines of the log that could not be written")
        self.log_lines_left_out = self._counter(
            "log_lines_left_out", "Lines of attempts that succeeded, left out above a rate"
        )
        self.spans = self._counter("spans", "Spans of traces, by what became of them", "result")
        self.attempt_duration = self._histogram("attempt_duration_seconds", "Duration of a request", ATTEMPT_BUCKETS)
        self.delivery_latency = self._histogram(
            "delivery_latency_seconds", "From the recording of an event to its first attempt", LATENCY_BUCKETS
        )
        self.flush_seconds = self._histogram("flush_seconds", "Duration of a flush of outcomes", FLUSH_BUCKETS)
        self.event_loop_lag = self._histogram("event_loop_lag_seconds", "How late the event loop runs", LAG_BUCKETS)
        self.event_skew = self._histogram("event_skew_seconds", "How far producers' clocks are ahead", LATENCY_BUCKETS)
        self.expression_seconds = self._histogram(
            "expression_seconds", "Duration of one event's expressions, in one place", EXPRESSION_BUCKETS
        )
        self.over_budget = self._counter("tenant_over_budget", "Expressions that took too many steps", "reason")
        self.deliveries_pending = self._gauge("deliveries_pending", "Deliveries without a final outcome", "state")
        self.routes = self._gauge("routes", "Routes, by status", "status")
        self.oldest_pending = self._gauge("oldest_pending_seconds", "Age of the oldest delivery that waits")
        self.connections_open = self._gauge("connections_open", "Open connections, by side", "side")
        self.in_flight = self._gauge("in_flight", "Requests under way")
        self.checkpoint_lag = self._gauge("checkpoint_lag_seconds", "Age of the oldest tick not accounted for")
        self.tick_age = self._gauge("tick_age_seconds", "How long committed events have been waiting for a tick")
        self.seal_age = self._gauge("seal_age_seconds", "Age of the newest seal while something is not sealed")
        self.clock_skew = self._gauge("clock_skew_seconds", "How far this machine's clock is ahead of the database's")
        self.source_lag = self._gauge("source_lag", "Offsets of sources that this process has yet to take", "source")
        self.source_faulty = self._gauge("source_faulty", "1 if something keeps this process from a source", "source")
        self.breakers_open = self._gauge("breakers_open", "Routes whose circuit breaker is open")
        self.shards_owned = self._gauge(
            "shards_owned", "Shards this process works on, while no other can have taken them"
        )
        self.resident_memory = self._gauge("resident_memory_bytes", "Memory that is in RAM; on Linux only")
        self.tasks = self._gauge("tasks", "Asyncio tasks: those of requests and connections come and go, others stay")
        Info("hookledger_build", "Version", registry=self.registry).info({"version": __version__})
        self._noted_attempts: list[tuple[str, int | None]] = []
        self._noted_decisions: dict[Decision, int] = {}
        self._noted_durations: list[float] = []
        self._noted_latencies: list[timedelta] = []
        self._published = {result: self.events_published.labels(result) for result in RESULTS}
        self._filter_over_budget, self.render_over_budget = map(self.over_budget.labels, OVER_BUDGET)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Exposes what has not happened yet as 0."""
        for labels in USUAL_ATTEMPTS:
            self.attempts.labels(*labels)
        for decision in Decision:
            self.decisions.labels(decision)
        for limit in QUERY_LIMITS:
            self.queries_refused.labels(limit)
        for reason in DenyReason:
            self.egress_denied.labels(reason)
        for result in SPAN_RESULTS:
            self.spans.labels(result)
        for side in SIDES:
            self.connections_open.labels(side)
        for table in CREDENTIALS:
            self.forged_credentials.labels(table)

    def attempted(self, outcome: str, status: int | None, duration_seconds: float) -> None:
        """Counts an attempt, with the status of its answer if there was one. On the hot path."""
        self._noted_attempts.append((outcome, status))
        if status is not None or duration_seconds:
            self._noted_durations.append(duration_seconds)

    def delivered_after(self, waited: timedelta) -> None:
        """Records how long the event of a first attempt had waited. On the hot path."""
        self._noted_latencies.append(waited)

    def published(self, result: str, count: int = 1) -> None:
        """Counts events that were taken in or rejected. On the hot path."""
        self._published[result].inc(count)

    def has_source(self, name: str) -> None:
        """Lets the metrics of a source begin."""
        for result in SOURCE_RESULTS:
            self.source_messages.labels(name, result)
        self.source_lag.labels(name)
        self.source_faulty.labels(name)

    def decided(self, decision: Decision, count: int = 1) -> None:
        """Counts decisions. On the hot path."""
        self._noted_decisions[decision] = self._noted_decisions.get(decision, 0) + count

    def add_up(self) -> None:
        """Adds what was noted to the metrics."""
        for (outcome, status), count in Tally(self._noted_attempts).items():
            self.attempts.labels(outcome, status_class(status)).inc(count)
        for decision, count in self._noted_decisions.items():
            self.decisions.labels(decision).inc(count)
        self.attempt_duration.observe_all(self._noted_durations)
        self.delivery_latency.observe_all([max(0.0, waited / _SECOND) for waited in self._noted_latencies])
        for noted in (self._noted_attempts, self._noted_decisions, self._noted_durations, self._noted_latencies):
            noted.clear()

    def filtered(self, results: Iterable[FilterResult]) -> None:
        """Counts the filters of one event that took too many steps. On the hot path of events with filters."""
        for result in results:
            if result is FilterResult.OVER_BUDGET:
                self._filter_over_budget.inc()

    def skewed(self, seconds: float) -> None:
        """Records how far the time of an event lay in the future."""
        self.event_skew.observe(seconds)

    def counted(self, side: str) -> Callable[[int], None]:
        """A function that is told by how many the open connections of a side changed."""
        return self.connections_open.labels(side).inc

    def query_refused(self, is_own: bool) -> None:  # noqa: FBT001 - a callback, with its one fact
        """Counts a query that was refused: by its tenant's limit, or by that for all."""
        self.queries_refused.labels("tenant" if is_own else "all").inc()

    @property
    def sets_shared_gauges(self) -> bool:
        """True if this process sets the gauges that are the same for all workers. It keeps that role until it ends."""
        if self._directory is None or self._shared_lock is not None:
            return True
        try:
            file = os.open(self._directory / "shared_gauges.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:  # too many open files, most likely: another worker may take the role meanwhile
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._shared_lock = file
        return True

    def render(self) -> bytes:
        """The text exposition format."""
        self.add_up()
        if self._directory is None:
            return generate_latest(self.registry)
        summed = CollectorRegistry()
        summed.register(_Summed(self.registry, self._directory))
        return generate_latest(summed)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"hookledger_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"hookledger_{name}", text, labels, registry=self.registry, multiprocess_mode=GAUGE_MODE)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> _SummedHistogram:
        return _SummedHistogram(f"hookledger_{name}", text, buckets=buckets, registry=self.registry)


class _SummedHistogram(Histogram):
    def observe_all(self, amounts: Sequence[float]) -> None:
        """`observe` for each, with one addition for each bucket."""
        self._sum.inc(sum(amounts))
        in_order, counted = sorted(amounts), 0
        for bucket, bound in zip(self._buckets, self._upper_bounds, strict=True):
            upto = bisect_right(in_order, bound, counted)
            if upto > counted:
                bucket.inc(upto - counted)
                counted = upto


class _Summed:
    """The sums over all workers, for the metrics of our own registry. A metric without values yet has no samples."""

    def __init__(self, own: CollectorRegistry, directory: Path) -> None:
        self._own = own
        self._summed = MultiProcessCollector(None, str(directory))  # type: ignore[no-untyped-call] # the library's

    def collect(self) -> Iterator[Metric]:
        found = {metric.name: metric for metric in self._summed.collect()}  # type: ignore[no-untyped-call] # the same
        for metric in self._own.collect():
            if metric.name in found:
                metric.samples = found[metric.name].samples
            elif metric.type != "info":
                metric.samples = []
            yield metric


def keep_directory(directory: Path) -> int:
    """Has those who remove old files pass over the directory (systemd-tmpfiles(8)), until the descriptor is closed.

    Files that are mapped into memory may look as if nobody had used them for days.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def remove_gauges(worker: int, directory: Path) -> None:
    """Removes the gauges of a dead worker."""
    (directory / f"gauge_{GAUGE_MODE}_{worker}.db").unlink(missing_ok=True)


def remove_directory() -> None:
    """Removes the directory that all workers share, on behalf of a parent process that died."""
    if DIRECTORY_VARIABLE in os.environ:
        shutil.rmtree(os.environ[DIRECTORY_VARIABLE], ignore_errors=True)


def _use_worker_files(worker: int, directory: Path) -> None:
    """Makes the library keep values in files named by the worker's number instead of its process id."""
    for name in FILES:
        path = directory / f"{name}_{worker}.db"
        if not path.exists():
            unfinished = path.with_suffix(".new")
            unfinished.write_bytes(bytes(FILE_BYTES))
            unfinished.rename(path)
    values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call] # the library's
