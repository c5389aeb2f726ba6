"""Which reader the configuration of a source gives its messages, and how much of a reason for refusal is told."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.config.event_sources import EXPRESSIONS, SourceFormat, SourceSection
from daemon.core.events.event import FieldProblem
from daemon.core.messages.mapping import MessageMapping
from daemon.core.messages.reading import MessageRules

# The reason for a message whose event PostgreSQL does not take.
VALUE_REFUSED = "PostgreSQL refuses a value of this event"


def rules_of(section: SourceSection, *, max_bytes: int) -> MessageRules:
    """The rules of a source."""
    mapping = None
    if section.format is SourceFormat.MAPPED:
        mapping = MessageMapping(fields=section.expressions, filter=section.filter)
    return MessageRules(
        max_bytes=max_bytes, mapping=mapping, are_cloud_events=section.format is SourceFormat.CLOUDEVENTS
    )


def reason_of(name: str, section: SourceSection, problems: Sequence[FieldProblem]) -> str:
    """All that is wrong with a message, in one text. Where an expression is to blame, it has the key to correct."""
    is_mapped = section.format is SourceFormat.MAPPED
    keys = {*EXPRESSIONS, "filter"} if is_mapped else set()
    parts = []
    for problem in problems:
        place = f"sources.{name}.{problem.field}" if problem.field in keys else problem.field
        parts.append(f"{place}: {problem.message}" if place else problem.message)
    return "; ".join(parts)
