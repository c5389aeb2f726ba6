"""The recorded row of an attempt, and what an answer says about the receiver."""

from __future__ import annotations

from datetime import datetime
from itertools import accumulate

import orjson

from daemon.core.delivery import answer as core_delivery
from daemon.core.delivery.answer import Answer, ErrorName, Failure, Outcome, Response, Verdict, classify
from daemon.core.routing.route import Route
from daemon.pipeline.scheduling.delivery import Delivery
from eventstore.progress.rows import AttemptRow

# The kept bytes of an answer: enough to debug a failure, less of a success.
KEPT_FAILURE_BYTES = 4096
KEPT_SUCCESS_BYTES = 512
KEPT_HEAD_BYTES = 4096
# The kept length of the reason why a body could not be rendered. Errors of expressions quote values of the event.
KEPT_REASON_CHARACTERS = 500
# Errors that are not the receiver's fault.
NOT_THE_RECEIVER = (ErrorName.RENDER_ERROR, ErrorName.INTERNAL_ERROR, ErrorName.PROXY_ERROR)


def succeeded(answer: Answer) -> bool | None:
    """True if the receiver accepted the request, False if it failed, None if the failure was not the receiver's."""
    if isinstance(answer, Failure) and answer.error in NOT_THE_RECEIVER:
        return None
    return classify(answer) is Verdict.SUCCESS


def plain(text: str) -> str:
    """A reason that PostgreSQL accepts as text: without NUL and unpaired surrogates, and shortened."""
    return text[:KEPT_REASON_CHARACTERS].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def head_of(response: Response) -> str:
    """The answer's headers as JSON, a list of [name, value]: the first ones that fit into KEPT_HEAD_BYTES."""
    if not response.headers:
        return "[]"
    written = orjson.dumps(response.headers)
    if len(written) > KEPT_HEAD_BYTES:
        ends = accumulate(len(orjson.dumps(header)) + 1 for header in response.headers)
        written = orjson.dumps(response.headers[: sum(end < KEPT_HEAD_BYTES for end in ends)])
    return written.decode()


def row_of(
    delivery: Delivery,
    route: Route,
    outcome: Outcome,
    answer: Answer | None,
    key_ids: str,
    started_at: datetime,
    seconds: float,
    number: int,
) -> AttemptRow:
    """The row of the attempt. `number` counts requests from 1; it is 0 for an outcome without a request."""
    event, status, head, body = delivery.event, None, None, None
    if isinstance(answer, Response):
        kept = KEPT_SUCCESS_BYTES if outcome is Outcome.DELIVERED else KEPT_FAILURE_BYTES
        status, head, body = answer.status, head_of(answer), answer.body[:kept]
    return AttemptRow(
        event.seq,
        delivery.tick,
        delivery.route_id,
        delivery.event_time,
        started_at,
        delivery.shard,
        status,
        number,
        int(seconds * 1000),
        route.version,
        delivery.is_test,
        str(outcome),  # `.value` is a call in Python
        None if answer is None or outcome is Outcome.DELIVERED else core_delivery.error_name(answer),
        event.tenant,
        event.id,
        event.type,
        key_ids or None,
        head,
        body,
        core_delivery.delivery_key(delivery.id),
    )
