"""The preview of a request: what a route, which need not exist yet, would send for an event. Nothing is sent or stored.

Body and headers come from the same functions as those of a delivery, so the preview equals the real request, except for
two secrets. The values of custom headers are masked, and the signature is made with a placeholder key. With the route's
own key, a caller could have any content signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from daemon.core.delivery.answer import delivery_id
from daemon.core.drafts.route_draft import RouteDraft
from daemon.core.events.event import FieldProblem
from daemon.core.routing.index import patterns_of
from daemon.core.routing.route import Route
from daemon.core.webhook import request
from daemon.core.webhook.payload import PayloadEvent, RenderError
from daemon.core.webhook.request import RequestOptions, WebhookRequest
from daemon.core.webhook.signing import SigningKey, format_key
from daemon.expressions import rendering
from daemon.expressions.judging import FilterPlaces

PLACEHOLDER_KEY = SigningKey(format_key(bytes(32)))
# In place of a key that was brought along, which signs in the first scheme only.
PLACEHOLDER_TEXT = SigningKey("a key that was brought along")

# Stand-ins for a route that does not exist yet.
_NO_ROUTE = UUID(int=0)
_DEFAULTS = RouteDraft(name="-", target_url="https://example.com/", event_types=("*",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The request, and `reason`, why it would not be sent; None if it would."""

    request: WebhookRequest
    reason: str | None


def drafted(stored: Route | None, changes: Mapping[str, object], *, mask: str) -> RouteDraft:
    """The draft to preview: the changes, applied to the stored route or, without one, to defaults.

    The values of stored headers are replaced by `mask`, since a preview does not need them.
    """
    draft = _DEFAULTS
    if stored is not None:
        config = stored.config
        draft = RouteDraft(
            name=config.name,
            target_url=config.target_url,
            event_types=config.event_types,
            payload=config.payload,
            headers=dict.fromkeys(config.header_names, mask),
            enabled=stored.is_enabled,
        )
    values = dict(changes)
    if isinstance(options := values.get("payload"), Mapping):
        values["payload"] = replace(draft.payload, **options)
    return replace(draft, **values)  # type: ignore[arg-type] # the caller has checked each value's type


async def show(
    draft: RouteDraft,
    event: PayloadEvent,
    *,
    tenant: str,
    stored: Route | None,
    backfill: bool,
    timestamp: int,
    request_options: RequestOptions,
    places: FilterPlaces,
) -> Preview | tuple[FieldProblem, ...]:
    """The request that a valid draft would send for an event, or the problems of its expressions with this event.

    The values of the draft's headers should be masked. Expressions are evaluated at `places`. Raises Saturated.
    """
    passes, problems, most = True, [], request_options.max_body_bytes
    if (test := draft.payload.filter) is not None:
        try:
            passes = await rendering.holds(places, tenant, event, test, max_bytes=most)
        except RenderError as error:
            problems.append(FieldProblem(field="payload.filter", message=str(error)))
    try:
        body = await rendering.body(places, tenant, event, replace(draft.payload, filter=None), max_bytes=most)
    except RenderError as error:
        field = "payload.snapshot" if draft.payload.transform is None else "payload.transform"
        return (*problems, FieldProblem(field=field, message=str(error)))
    if problems:
        return tuple(problems)
    made = request.with_headers(
        body,
        hops=event.hops,
        message_id=delivery_id(_NO_ROUTE if stored is None else stored.id, event.event_id, event.created),
        custom=draft.headers,
        keys=[_placeholder(draft, stored)],
        timestamp=timestamp,
        is_test=False,
        request_options=request_options,
    )
    return Preview(request=made, reason=_reason(draft, event, backfill=backfill, passes=passes))


def _placeholder(draft: RouteDraft, stored: Route | None) -> SigningKey:
    if draft.verification_key:
        is_standard = SigningKey(draft.verification_key).standard is not None
    else:
        is_standard = stored is None or stored.keys[0].is_standard
    return PLACEHOLDER_KEY if is_standard else PLACEHOLDER_TEXT


def _reason(draft: RouteDraft, event: PayloadEvent, *, backfill: bool, passes: bool) -> str | None:
    if backfill:
        return "an event that is imported as backfill is never delivered by itself"
    if not draft.enabled:
        return "the route is disabled"
    if not any(pattern in draft.event_types for pattern in patterns_of(event.event_type)):
        return f"the route does not subscribe to {event.event_type}"
    return None if passes else "the filter does not let this event pass"
