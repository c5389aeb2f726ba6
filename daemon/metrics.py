"""The metrics a daemon exposes, by the names contract tests and dashboards rely on.

None has a tenant, route or URL label: their number must not grow with the number of customers. Label children on the
hot path are looked up once and kept; what can be foreseen of them begins with 0, so that an alert on a rate sees the
first one. Test events are no traffic: decisions, attempts and latencies leave them out, and
only gauges of what is under way or waits have them, since they take up room as everything does.

Of several workers each shows the sum over all. They keep their values in files of one directory, a set for each
worker's place: who takes the place of a dead one counts on in its counters, and gauges of the dead are removed. A sum
is right for what each has of its own, requests under way or shards; what is the same for all, such as the routes, is
set by one of them: the one that `tells_for_all`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, values
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from daemon import __version__
from daemon.core.routing.decision import Decision
from daemon.core.webhook.addresses import DenyReason

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

GAUGE_MODE: Final = "livesum"
# A worker's files, and their size. They are mapped into memory, and written whole beforehand: a page that a full disk
# has no room for would kill the process.
FILES = ("counter", "histogram", f"gauge_{GAUGE_MODE}")
FILE_BYTES = 128 * 1024

RESULTS = ("accepted", "duplicate", "rejected")
USUAL_ATTEMPTS = (
    ("delivered", "2xx"),
    *((outcome, status) for outcome in ("retrying", "failed") for status in ("3xx", "4xx", "5xx", "none")),
)

# A webhook takes from a millisecond on the same machine to the default timeout of 15 s; a retry schedule takes hours.
ATTEMPT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 600, 3600)
FLUSH_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Metrics:
    """One registry; an attribute for each metric. `worker` is this process's place, None if it is alone."""

    def __init__(self, *, worker: int | None = None) -> None:
        self.registry = CollectorRegistry()
        self._directory = None if worker is None else Path(os.environ[DIRECTORY_VARIABLE])
        self._telling: int | None = None
        if worker is not None and self._directory is not None:
            _take_place(worker, self._directory)
        self.events_published = self._counter("events_published", "Events taken in, by result", "result")
        self.decisions = self._counter("decisions", "Events × routes that ever wanted their type", "decision")
        self.attempts = self._counter("attempts", "Outcomes of attempts", "outcome", "status_class")
        self.egress_denied = self._counter("egress_denied", "Targets refused, by reason", "reason")
        self.attempt_duration = self._histogram("attempt_duration_seconds", "Duration of a request", ATTEMPT_BUCKETS)
        self.delivery_latency = self._histogram(
            "delivery_latency_seconds", "From the recording of an event to its first attempt", LATENCY_BUCKETS
        )
        self.flush_seconds = self._histogram("flush_seconds", "Duration of a flush of outcomes", FLUSH_BUCKETS)
        self.event_loop_lag = self._histogram("event_loop_lag_seconds", "How late the event loop runs", LAG_BUCKETS)
        self.event_skew = self._histogram("event_skew_seconds", "How far producers' clocks are ahead", LATENCY_BUCKETS)
        self.deliveries_pending = self._gauge("deliveries_pending", "Deliveries without a last word", "state")
        self.routes = self._gauge("routes", "Routes, by status", "status")
        self.oldest_pending = self._gauge("oldest_pending_seconds", "Age of the oldest delivery that waits")
        self.in_flight = self._gauge("in_flight", "Requests under way")
        self.checkpoint_lag = self._gauge("checkpoint_lag_seconds", "Age of the oldest tick not accounted for")
        self.breakers_open = self._gauge("breakers_open", "Routes whose circuit breaker is open")
        self.shards_owned = self._gauge("shards_owned", "Shards this process holds")
        Info("hookledger_build", "Version", registry=self.registry).info({"version": __version__})
        self._attempts: dict[tuple[str, str], Counter] = {
            labels: self.attempts.labels(*labels) for labels in USUAL_ATTEMPTS
        }
        self._decisions = {decision: self.decisions.labels(decision) for decision in Decision}
        for result in RESULTS:
            self.events_published.labels(result)
        for reason in DenyReason:
            self.egress_denied.labels(reason)

    def attempted(self, outcome: str, status_class: str, duration_seconds: float) -> None:
        """Counts an attempt; on the hot path."""
        child = self._attempts.get((outcome, status_class))
        if child is None:
            child = self._attempts[outcome, status_class] = self.attempts.labels(outcome, status_class)
        child.inc()
        if status_class != "none" or duration_seconds:
            self.attempt_duration.observe(duration_seconds)

    def decided(self, decision: Decision, count: int = 1) -> None:
        """Counts decisions; on the hot path."""
        self._decisions[decision].inc(count)

    def skewed(self, seconds: float) -> None:
        """Notes an event from the future."""
        self.event_skew.observe(seconds)

    @property
    def tells_for_all(self) -> bool:
        """Whether this process sets what is the same for all workers. Who once does so does it for life."""
        if self._directory is None or self._telling is not None:
            return True
        file = os.open(self._directory / "teller", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._telling = file
        return True

    def render(self) -> bytes:
        """The text exposition format."""
        if self._directory is None:
            return generate_latest(self.registry)
        summed = CollectorRegistry()
        summed.register(_Summed(self.registry, self._directory))
        return generate_latest(summed)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"hookledger_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"hookledger_{name}", text, labels, registry=self.registry, multiprocess_mode=GAUGE_MODE)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"hookledger_{name}", text, buckets=buckets, registry=self.registry)


class _Summed:
    """What all workers have, in the shape of our own registry: what nobody has yet is there without a value."""

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


def forget(worker: int, directory: Path) -> None:
    """Removes the gauges of a worker that died."""
    (directory / f"gauge_{GAUGE_MODE}_{worker}.db").unlink(missing_ok=True)


def remove_shared() -> None:
    """Removes the directory of all workers, for a parent that no longer can."""
    if DIRECTORY_VARIABLE in os.environ:
        shutil.rmtree(os.environ[DIRECTORY_VARIABLE], ignore_errors=True)


def _take_place(worker: int, directory: Path) -> None:
    """Lets the library keep values in the files of this place, by its number instead of the process's id."""
    for name in FILES:
        path = directory / f"{name}_{worker}.db"
        if not path.exists():
            unfinished = path.with_suffix(".new")
            unfinished.write_bytes(bytes(FILE_BYTES))
            unfinished.rename(path)
    values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call] # the library's
