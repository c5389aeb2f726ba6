"""What a query asks of Prometheus, held against what a daemon exposes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser
from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    MatrixSelector,
    ParenExpr,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
)

from daemon.telemetry.metrics import Metrics

# Labels that a scrape adds. It makes a metric itself: up.
OF_A_SCRAPE = frozenset({"job", "instance"})


@dataclass(frozen=True, slots=True, kw_only=True)
class QueriedMetric:
    """A metric that a query names, and every label by which it chooses or groups it."""

    metric: str
    labels: frozenset[str]


_ENDS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",), "gauge": ("",)}


def exposed() -> dict[str, frozenset[str]]:
    """Each sample of a daemon's metrics → its labels."""
    found = {"up": OF_A_SCRAPE}
    for collector in Metrics().registry._collector_to_names:
        (family,) = collector.collect()
        for end in _ENDS[family.type]:
            own = {"le"} if end == "_bucket" else {"version"} if end == "_info" else set()
            found[family.name + end] = OF_A_SCRAPE | set(getattr(collector, "_labelnames", ())) | own
    return found


def queried(query: str) -> list[QueriedMetric]:
    """What a query asks for. Raises ValueError if it is none."""
    return list(_queried(promql_parser.parse(query), frozenset()))


def result_labels(query: str) -> frozenset[str] | None:
    """The labels of a query's result; None if they are those of the metric, as nothing is added up."""
    return _result_labels(promql_parser.parse(query))


def wrong(query: str) -> list[str]:
    """What in a query no daemon exposes."""
    known = exposed()
    return [
        f"{each.metric} {sorted(each.labels - known.get(each.metric, frozenset()))}"
        for each in queried(query)
        if each.metric not in known or not each.labels <= known[each.metric]
    ]


def _queried(node: object, grouped_by: frozenset[str]) -> Iterator[QueriedMetric]:
    match node:
        case VectorSelector():
            chosen_by = {matcher.name for matcher in node.matchers.matchers}
            yield QueriedMetric(metric=node.name or "", labels=grouped_by | chosen_by)
        case MatrixSelector():
            yield from _queried(node.vector_selector, grouped_by)
        case AggregateExpr():
            labels = frozenset(() if node.modifier is None else node.modifier.labels)
            yield from _queried(node.expr, grouped_by | labels)
        case Call():
            for argument in node.args:
                yield from _queried(argument, grouped_by)
        case BinaryExpr():
            yield from _queried(node.lhs, grouped_by)
            yield from _queried(node.rhs, grouped_by)
        case ParenExpr() | UnaryExpr() | SubqueryExpr():
            yield from _queried(node.expr, grouped_by)
        case _:
            pass  # a number, a text


def _result_labels(node: object) -> frozenset[str] | None:
    match node:
        case AggregateExpr():
            return frozenset(() if node.modifier is None else node.modifier.labels)
        case Call():
            inner = next((each for each in map(_result_labels, node.args) if each is not None), None)
            return None if inner is None else inner - {"le"}
        case BinaryExpr():
            return _result_labels(node.lhs)
        case ParenExpr() | UnaryExpr() | SubqueryExpr():
            return _result_labels(node.expr)
        case _:
            return None
