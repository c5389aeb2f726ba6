"""The JSON of how a route's receiver does."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from daemon.core.delivery.health import HealthState
from daemon.core.sentences.failures import error_code
from daemon.receivers import RouteHealth
from daemon.web.http.shapes import Moment, moment


class LastAnswerShape(TypedDict):
    """The last request that was no test: when it was made, and its answer."""

    at: Moment
    status_code: Annotated[int | None, Field(examples=[500])]
    error: Annotated[str | None, Field(examples=["http_500", None, "timeout"])]


class RouteHealthShape(TypedDict):
    """How a route's receiver does, within about a second. `ok`: it answers with success. `failing`: some requests fail.
    `down`: the last ones all failed. `unknown`: nothing was sent since the route was enabled.

    `since` is when that began, of `down` with the first of these failures. `waiting` counts the deliveries that wait,
    at least so many if there are more than a thousand. `next_probe_at` is when the next request to a receiver that
    fails is due; it may just have passed.
    """

    state: HealthState
    since: Moment | None
    last_answer: LastAnswerShape | None
    waiting: Annotated[int, Field(ge=0, examples=[900])]
    next_probe_at: Annotated[Moment | None, Field(examples=[None])]


def of_health(health: RouteHealth) -> RouteHealthShape:
    answer = health.last_answer
    last: LastAnswerShape | None = None
    if answer is not None:
        error = None if answer.error is None else error_code(answer.error)
        last = {"at": moment(answer.at), "status_code": answer.status_code, "error": error}
    return {
        "state": health.state,
        "since": moment(health.since),
        "last_answer": last,
        "waiting": health.waiting.number,
        "next_probe_at": moment(health.next_probe_at),
    }
