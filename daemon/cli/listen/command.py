"""`hookledger listen`: a tenant's events, posted to a program on this machine for as long as the command runs.

It reads the feed of a running daemon, and needs no database. Nothing is left of it: no route is made, no delivery is
recorded. Each session signs with a key of its own, so that nobody's key lies on a developer's machine.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import click

from daemon.cli.console import failures, output, parsing
from daemon.cli.listen.forwarder import OWN_NETWORK, Forwarded, Forwarder, ForwardTo
from daemon.cli.listen.remote import FeedEvent, RemoteFeed, RemoteRoute
from daemon.cli.store import cancel_on_sigterm
from daemon.core.delivery.answer import Response, Verdict, classify, error_name
from daemon.core.events import event
from daemon.core.routing.index import ALL
from daemon.core.routing.route import PayloadOptions
from daemon.core.sentences.failures import explain_error, status_text
from daemon.core.webhook.egress import UrlRefused, check_url
from daemon.core.webhook.request import RequestOptions
from daemon.core.webhook.signing import KEY_BYTES, SigningKey, format_key
from daemon.pipeline.http_client.sender import Sender
from daemon.runtime.tasks import TaskGroup

DEFAULT_URL = "http://127.0.0.1:8080"
# As many at once as of a route of a daemon, in the order of the events.
CONCURRENCY = 16
# Events that wait here for a program that is slow; the others wait in the log.
QUEUED_EVENTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """One run of the command, by its options."""

    url: str
    tenant: str
    token: str | None
    types: tuple[str, ...]
    route_id: UUID | None
    forward_to: str
    key: str
    timeout_seconds: float
    retries: int
    ordered: bool
    as_json: bool


@dataclass(slots=True)
class _Counts:
    """Counts the requests that were answered, or failed. `has_begun` once the daemon has answered."""

    has_begun: bool = False
    requests: int = 0
    succeeded: int = 0
    failed: int = 0


def _forward_url(_context: click.Context, _option: click.Parameter, text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    try:
        return check_url(url, OWN_NETWORK).url
    except UrlRefused as error:
        raise click.BadParameter(str(error)) from None


def _daemon_url(_context: click.Context, _option: click.Parameter, url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{url!r} is no URL: give one like {DEFAULT_URL}")
    return url


def _types(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    types = tuple(dict.fromkeys(part.strip() for text in texts for part in text.split(",")))
    for each in types:
        if (problem := event.pattern_problem(each)) is not None:
            raise click.BadParameter(problem)
    return types


def _tenant(_context: click.Context, _option: click.Parameter, text: str) -> str:
    if (problem := event.tenant_problem(text)) is not None:
        raise click.BadParameter(problem)
    return text


def _key(_context: click.Context, _option: click.Parameter, text: str | None) -> str:
    if text is not None and not text.strip():
        raise click.BadParameter("an empty key signs nothing: leave it out for a new one")
    return text or format_key(secrets.token_bytes(KEY_BYTES))


@click.command()
@click.option("--tenant", required=True, metavar="T", callback=_tenant, help="Whose events.")
@click.option(
    "--forward-to",
    required=True,
    metavar="URL",
    callback=_forward_url,
    help="Where to post them, like localhost:3000/webhooks.",
)
@click.option(
    "--event-type",
    "-e",
    "types",
    multiple=True,
    metavar="TYPES",
    callback=_types,
    help="Only these, as a route has them: order.create,'customer.*'; repeatable [all].",
)
@click.option("--route", "route_id", type=parsing.route_id, metavar="R", help="What this route would get, as it would.")
@click.option(
    "--url",
    default=DEFAULT_URL,
    show_default=True,
    metavar="URL",
    envvar="HOOKLEDGER_URL",
    callback=_daemon_url,
    help="The daemon's API [variable: HOOKLEDGER_URL].",
)
@click.option(
    "--token",
    type=parsing.token,
    metavar="TOKEN",
    envvar="HOOKLEDGER_TOKEN",
    help="One that may read the tenant [variable: HOOKLEDGER_TOKEN].",
)
@click.option(
    "--verification-key",
    "key",
    metavar="KEY",
    envvar="HOOKLEDGER_LISTEN_KEY",
    callback=_key,
    help="Sign with this key instead of a new one [variable: HOOKLEDGER_LISTEN_KEY].",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0.1, max=3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an answer may take.",
)
@click.option(
    "--retries", type=click.IntRange(min=0, max=100), default=0, metavar="N", help="Repeat what fails so often [0]."
)
@click.option("--ordered", is_flag=True, help="Post one after the other, in order.")
@output.json_option
def listen(
    *,
    tenant: str,
    forward_to: str,
    types: tuple[str, ...],
    route_id: UUID | None,
    url: str,
    token: str | None,
    key: str,
    timeout_seconds: float,
    retries: int,
    ordered: bool,
    as_json: bool,
) -> None:
    """Forward a tenant's events to a program on this machine.

    Events from now on are posted as a webhook would be, signed with a key that is made for this session and printed
    first. One line tells each answer. A lost connection is taken up again where it ended. Ctrl-C ends it; nothing is
    left behind: no route is made, and nothing is recorded. What fails is not repeated, unless --retries says so.
    """
    if types and route_id is not None:
        raise click.UsageError("--route has event types of its own: leave --event-type out")
    session = _Session(
        url=url,
        tenant=tenant,
        token=token,
        types=types or (ALL,),
        route_id=route_id,
        forward_to=forward_to,
        key=key,
        timeout_seconds=timeout_seconds,
        retries=retries,
        ordered=ordered,
        as_json=as_json,
    )
    counts = _Counts()
    try:
        with suppress(KeyboardInterrupt, asyncio.CancelledError):  # the ways to end it
            asyncio.run(_listen(session, counts))
    except BaseExceptionGroup as group:
        raise failures.first_of(group) from None
    finally:
        if counts.requests or (counts.has_begun and not as_json):
            requests = "1 request" if counts.requests == 1 else f"{counts.requests} requests"
            output.note(f"{requests}: {counts.succeeded} succeeded, {counts.failed} failed")


async def _listen(session: _Session, counts: _Counts) -> None:
    cancel_on_sigterm()
    async with (
        RemoteFeed(session.url, session.tenant, token=session.token, tell=output.note) as feed,
        Sender(
            OWN_NETWORK, timeout_seconds=session.timeout_seconds, on_denied=_nobody, concurrency=CONCURRENCY
        ) as sender,
    ):
        route = None if session.route_id is None else await feed.route(session.route_id)
        types = session.types if route is None else route.event_types
        options = await feed.begin()
        counts.has_begun = True
        _print_begin(session, types, route)
        forwarder = _forwarder(session, route, sender, options, counts)
        queue: asyncio.Queue[FeedEvent] = asyncio.Queue(QUEUED_EVENTS)
        is_ordered = session.ordered or (route is not None and route.ordered)
        async with TaskGroup() as group:
            for _ in range(1 if is_ordered else CONCURRENCY):
                group.create_task(_work(queue, forwarder))
            async for each in feed.events(types):
                await queue.put(each)


def _forwarder(
    session: _Session, route: RemoteRoute | None, sender: Sender, options: RequestOptions, counts: _Counts
) -> Forwarder:
    to = ForwardTo(
        url=session.forward_to,
        route_id=uuid4() if route is None else route.id,
        payload=PayloadOptions() if route is None else route.payload,
        is_existing=route is not None,
        retries=session.retries,
    )

    def answered(made: Forwarded) -> None:
        counts.requests += 1
        is_success = classify(made.answer) is Verdict.SUCCESS
        counts.succeeded += is_success
        counts.failed += not is_success
        _print(made, as_json=session.as_json)

    return Forwarder(to, sender, key=SigningKey(session.key), options=options, on_answer=answered)


async def _work(queue: asyncio.Queue[FeedEvent], forward: Forwarder) -> None:
    while True:
        await forward(await queue.get())


def _print_begin(session: _Session, types: tuple[str, ...], route: RemoteRoute | None) -> None:
    if session.as_json:
        output.document({"tenant": session.tenant, "forward_to": session.forward_to, "verification_key": session.key})
    else:
        output.fields(
            [
                ("events of", f"{session.tenant}: {', '.join(types)}"),
                ("go to", session.forward_to),
                ("verification key", session.key),
            ]
        )
    if route is not None and route.header_names:
        names = ", ".join(route.header_names)
        output.note(f"the route's own headers are not sent, since their values are secret: {names}")
    output.note("waiting for events; Ctrl-C ends it")


def _print(made: Forwarded, *, as_json: bool) -> None:
    error = error_name(made.answer)
    status = made.answer.status if isinstance(made.answer, Response) else None
    milliseconds = round(made.seconds * 1000)
    if as_json:
        output.document(
            {
                "at": made.at,
                "type": made.event_type,
                "id": made.event_id,
                "status": status,
                "error": error,
                "milliseconds": milliseconds,
            }
        )
        return
    result = status_text(status) if status is not None else explain_error(error or "").short
    again = "  (again soon)" if made.will_retry else ""
    columns = (_clock(made.at), made.event_type, made.event_id, result, f"{milliseconds} ms")
    click.echo("  ".join(output.plain(text) for text in columns) + again)


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}Z"


def _nobody(_reason: str) -> None:
    """Is told of targets that the policy denies; the answer tells it."""
