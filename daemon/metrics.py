"""The metrics a daemon exposes, by the names contract tests and dashboards rely on.

None has a tenant, route or URL label: their number must not grow with the number of customers. Label children on the
hot path are looked up once and kept.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import generate_latest

from daemon import __version__

# A webhook takes from a millisecond on the same machine to the default timeout of 15 s; a retry schedule takes hours.
ATTEMPT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 600, 3600)
FLUSH_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Metrics:
    """One registry; an attribute for each metric."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events_published = self._counter("events_published", "Events taken in, by result", "result")
        self.decisions = self._counter("decisions", "Pairs of event and route, by decision", "decision")
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
        self._attempts: dict[tuple[str, str], Counter] = {}
        self._decisions: dict[str, Counter] = {}

    def attempted(self, outcome: str, status_class: str, duration_seconds: float) -> None:
        """Counts an attempt; on the hot path."""
        child = self._attempts.get((outcome, status_class))
        if child is None:
            child = self._attempts[outcome, status_class] = self.attempts.labels(outcome, status_class)
        child.inc()
        if status_class != "none" or duration_seconds:
            self.attempt_duration.observe(duration_seconds)

    def decided(self, decision: str, count: int) -> None:
        """Counts decisions; on the hot path."""
        child = self._decisions.get(decision)
        if child is None:
            child = self._decisions[decision] = self.decisions.labels(decision)
        child.inc(count)

    def skewed(self, seconds: float) -> None:
        """Notes an event from the future."""
        self.event_skew.observe(seconds)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"hookledger_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"hookledger_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"hookledger_{name}", text, buckets=buckets, registry=self.registry)
