"""Which path leads to which page. Each page is a module of its own, with the template of its name."""

from __future__ import annotations

from aiohttp import web

from daemon.web.dashboard import (
    activity,
    assets,
    commands,
    deliveries,
    delivery,
    entrance,
    event,
    event_type_list,
    event_types,
    events,
    history,
    keys,
    live,
    operator,
    previews,
    rendering,
    replays,
    status,
    test_events,
    tokens,
    webhook,
    webhook_form,
    webhooks,
)
from daemon.web.dashboard.pages import page_of
from daemon.web.problems import PAGE_OF

# By itself a name in a path takes no braces, and a tenant's id may have some.
_TENANT = "/t/{tenant:[^/]+}"
# Behind what else begins so: `new` would be taken for a webhook.
_WEBHOOK = f"{_TENANT}/webhooks/{{route}}"
_DELIVERY = f"{_TENANT}/deliveries/{{delivery}}"


def add(application: web.Application) -> None:
    """Adds the dashboard to an application."""
    rendering.set_up(application)
    live.set_up(application)
    application[PAGE_OF] = page_of
    application.add_routes(
        [
            web.get("/", entrance.show),
            web.get("/assets/{digest}/{name}", assets.show),
            # webhooks
            web.get(f"{_TENANT}/webhooks", webhooks.show),
            # the form
            web.get(f"{_TENANT}/webhooks/new", webhook_form.new),
            web.post(f"{_TENANT}/webhooks/new", webhook_form.create),
            web.get(f"{_WEBHOOK}/edit", webhook_form.edit),
            web.post(f"{_WEBHOOK}/edit", webhook_form.save),
            web.post(f"{_TENANT}/drafts/preview", previews.show),
            web.post(f"{_TENANT}/drafts/target", previews.target),
            # test events and replays
            web.get(f"{_WEBHOOK}/test", test_events.show),
            web.post(f"{_WEBHOOK}/test", test_events.send),
            web.get(f"{_WEBHOOK}/replay", replays.show),
            web.post(f"{_WEBHOOK}/replay", replays.submit),
            web.get(f"{_WEBHOOK}/replays/{{replay}}", replays.show_replay),
            web.post(f"{_WEBHOOK}/replays/{{replay}}/cancel", replays.cancel),
            # what was sent, and what happened
            web.get(f"{_TENANT}/deliveries", deliveries.show),
            web.get(f"{_TENANT}/deliveries/live", deliveries.tail),
            web.get(_DELIVERY, delivery.show),
            web.get(f"{_DELIVERY}/body", delivery.body),
            web.post(f"{_DELIVERY}/retry", delivery.retry),
            web.get(f"{_TENANT}/events", events.show),
            web.get(f"{_TENANT}/events/{{event:[^/]+}}", event.show),
            web.get(f"{_TENANT}/activity", activity.show),
            # operator
            web.get("/operator", operator.show),
            web.post("/operator", operator.make_login_link),
            web.get("/operator/tokens", tokens.show),
            web.post("/operator/tokens", tokens.create),
            web.get("/operator/tokens/{token}/revoke", tokens.ask),
            web.post("/operator/tokens/{token}/revoke", tokens.revoke),
            web.get("/operator/event-types", event_types.show),
            web.get("/operator/event-types/new", event_types.new),
            web.post("/operator/event-types/new", event_types.add),
            web.get("/operator/event-types/list", event_type_list.show),
            web.post("/operator/event-types/list", event_type_list.take),
            web.get("/operator/event-types/{name}", event_types.edit),
            web.post("/operator/event-types/{name}", event_types.save),
            web.get("/operator/event-types/{name}/remove", event_types.ask_removal),
            web.post("/operator/event-types/{name}/remove", event_types.remove),
            web.get("/operator/status", status.show),
            # one webhook
            web.get(_WEBHOOK, webhook.show),
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
        ]
    )
