"""Which path leads to which page."""

from __future__ import annotations

from aiohttp import web

from daemon.web.dashboard import assets, pages, sign_in
from daemon.web.dashboard.catalogue import event_types as merchants_types
from daemon.web.dashboard.html import rendering
from daemon.web.dashboard.logs import bulk_retries, deliveries, delivery, event, events, live
from daemon.web.dashboard.operator import (
    audits,
    event_type_list,
    event_types,
    failing_routes,
    find,
    refusals,
    status,
    tenants,
    tokens,
)
from daemon.web.dashboard.pages import page_of
from daemon.web.dashboard.webhook_actions import commands, replays, sample_events
from daemon.web.dashboard.webhook_form import form, previews
from daemon.web.dashboard.webhooks import history, keys, listing, overview
from daemon.web.http.problems import PAGE_OF

# aiohttp's default pattern excludes braces, and a tenant's id may contain them.
_TENANT = "/t/{tenant:[^/]+}"
_WEBHOOK = f"{_TENANT}/webhooks/{{route}}"
_DELIVERY = f"{_TENANT}/deliveries/{{delivery}}"

_FRONT = (
    web.get("/", pages.home),
    web.get("/login/{link}", sign_in.show),
    web.post("/login/{link}", sign_in.sign_in),
    web.get("/assets/{digest}/{name}", assets.show),
)

# Fixed names come before placeholders: `new` is not the id of a webhook, and `live` not that of a delivery.
_WEBHOOKS = (
    web.get(_TENANT, pages.home_of_tenant),
    web.get(f"{_TENANT}/webhooks", listing.show),
    web.get(f"{_TENANT}/webhooks/new", form.new),
    web.post(f"{_TENANT}/webhooks/new", form.create),
    web.post(f"{_TENANT}/drafts/preview", previews.show),
    web.post(f"{_TENANT}/drafts/target", previews.target),
    web.get(f"{_TENANT}/activity", history.show_all),
    web.get(_WEBHOOK, overview.show),
    web.get(f"{_WEBHOOK}/edit", form.edit),
    web.post(f"{_WEBHOOK}/edit", form.save),
    web.get(f"{_WEBHOOK}/test", sample_events.show),
    web.post(f"{_WEBHOOK}/test", sample_events.send),
    web.get(f"{_WEBHOOK}/replay", replays.show),
    web.post(f"{_WEBHOOK}/replay", replays.submit),
    web.get(f"{_WEBHOOK}/replays/{{replay}}", replays.show_replay),
    web.post(f"{_WEBHOOK}/replays/{{replay}}/cancel", replays.cancel),
    web.get(f"{_WEBHOOK}/disable", commands.ask_disable),
    web.post(f"{_WEBHOOK}/disable", commands.disable),
    web.post(f"{_WEBHOOK}/enable", commands.enable),
    web.get(f"{_WEBHOOK}/delete", commands.ask_delete),
    web.post(f"{_WEBHOOK}/delete", commands.delete),
    web.get(f"{_WEBHOOK}/key", keys.show),
    web.get(f"{_WEBHOOK}/rotate-key", commands.ask_rotate),
    web.post(f"{_WEBHOOK}/rotate-key", commands.rotate),
    web.get(f"{_WEBHOOK}/revoke-old-key", commands.ask_revoke),
    web.post(f"{_WEBHOOK}/revoke-old-key", commands.revoke),
    web.get(f"{_WEBHOOK}/history", history.show),
)
_LOGS = (
    web.get(f"{_TENANT}/deliveries", deliveries.show),
    web.get(f"{_TENANT}/deliveries/live", deliveries.tail),
    web.post(f"{_TENANT}/deliveries/retry", bulk_retries.submit),
    web.get(_DELIVERY, delivery.show),
    web.get(f"{_DELIVERY}/body", delivery.body),
    web.get(f"{_DELIVERY}/proof", delivery.proof),
    web.post(f"{_DELIVERY}/retry", delivery.retry),
    web.get(f"{_TENANT}/event-types", merchants_types.show),
    web.get(f"{_TENANT}/event-types/{{name}}", merchants_types.show_type),
    web.get(f"{_TENANT}/events", events.show),
    web.get(f"{_TENANT}/events/{{event:[^/]+}}", event.show),
)
_OPERATOR = (
    web.get("/operator", tenants.show),
    web.post("/operator", tenants.make_login_link),
    web.get("/operator/tokens", tokens.show),
    web.post("/operator/tokens", tokens.create),
    web.get("/operator/tokens/{token}/revoke", tokens.ask_revoke),
    web.post("/operator/tokens/{token}/revoke", tokens.revoke),
    web.get("/operator/event-types", event_types.show),
    web.get("/operator/event-types/new", event_types.new),
    web.post("/operator/event-types/new", event_types.add),
    web.get("/operator/event-types/list", event_type_list.show),
    web.post("/operator/event-types/list", event_type_list.submit),
    web.get("/operator/event-types/{name}", event_types.edit),
    web.post("/operator/event-types/{name}", event_types.save),
    web.get("/operator/event-types/{name}/remove", event_types.ask_removal),
    web.post("/operator/event-types/{name}/remove", event_types.remove),
    web.get("/operator/audits", audits.show),
    web.post("/operator/audits", audits.begin),
    web.get("/operator/audits/{audit}", audits.show_audit),
    web.get("/operator/status", status.show),
    web.get("/operator/failing", failing_routes.show),
    web.get("/operator/refusals", refusals.show),
    web.get("/operator/find", find.show),
)


def add(application: web.Application) -> None:
    """Adds the dashboard to an application."""
    rendering.set_up(application)
    live.set_up(application)
    application[PAGE_OF] = page_of
    application.add_routes([*_FRONT, *_WEBHOOKS, *_LOGS, *_OPERATOR])
