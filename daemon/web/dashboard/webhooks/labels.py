"""The fields of the form of a webhook: their words, and how it is told what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from daemon.core.event import Problem
from daemon.web.dashboard.plain import plain
from daemon.web.dashboard.wrongs import Wrongs

# In the order of the form.
LABELS: Mapping[str, str] = {
    "name": "Name",
    "target_url": "Target URL",
    "event_types": "Event types",
    "payload.snapshot": "Snapshot",
    "payload.filter": "Filter",
    "payload.transform": "Transform",
    "sample_type": "Example",
    "sample_event": "Pasted event",
    "headers": "Custom headers",
    "rate_limit_per_second": "Rate limit",
    "ordered": "Order",
    "reason": "Reason",
}


def placed(problems: Iterable[Problem]) -> Wrongs:
    """What is wrong, in the order of the form. A header's is that of all: they are one field."""
    places = list(LABELS)
    found = [_at_its_field(problem) for problem in problems]
    return Wrongs(sorted(found, key=lambda it: places.index(it.field) if it.field in places else len(places)))


def _at_its_field(problem: Problem) -> Problem:
    name, message = problem.field, plain(problem.message).removesuffix(".")
    if name.startswith("headers."):
        return Problem(field="headers", message=f"{name.removeprefix('headers.')}: {message}".removeprefix(": "))
    return Problem(field=name, message=message)
