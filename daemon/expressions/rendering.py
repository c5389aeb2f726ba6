"""Bodies of webhooks for an answer to a request: with cheap expressions here, with heavy ones by the evaluator.

A thread would not do: it shares the interpreter's lock with the event loop, which would wait 5 ms for each turn.
"""

from __future__ import annotations

from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook import payload
from daemon.core.webhook.expression import TooHeavy
from daemon.core.webhook.payload import EventFilters, FilterResult, PayloadEvent
from daemon.expressions.judging import FilterPlaces


async def body(
    places: FilterPlaces | None, tenant: str, event: PayloadEvent, options: PayloadOptions, *, max_bytes: int
) -> bytes:
    """The body, as `payload.render` makes it; without places all of it here. Raises RenderError and Saturated."""
    if places is None:
        return payload.render(event, options, max_bytes=max_bytes)
    try:
        return payload.render(event, options, max_bytes=max_bytes, allowance=places.allowance())
    except TooHeavy:
        async with places.waiting():
            return await places.evaluator.render(places.turn(tenant), event, options, max_bytes=max_bytes)


async def holds(places: FilterPlaces, tenant: str, event: PayloadEvent, test: str, *, max_bytes: int) -> bool:
    """True if a filter lets an event through. Raises RenderError, with the reason why it fails, and Saturated."""
    try:
        return EventFilters(event, allowance=places.allowance()).holds(test)
    except TooHeavy:
        result = (await places.results(tenant, event, [test]))[test]
        if result not in (FilterResult.PASSES, FilterResult.STOPS):
            await body(places, tenant, event, PayloadOptions(filter=test), max_bytes=max_bytes)
        return result.lets_through
