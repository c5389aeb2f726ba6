"""Operations: liveness, readiness, and metrics for Prometheus."""

from __future__ import annotations

from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, Media, endpoint
from daemon.web.http.services import SERVICES


class HealthShape(TypedDict):
    status: Literal["ok"]


class UnreadyShape(TypedDict):
    """The process is not ready. `reasons` are sentences."""

    status: Literal["unavailable"]
    reasons: Annotated[list[str], Field(examples=[["the database does not answer"]])]


METRICS = Media(
    content_type="text/plain",
    name="Metrics",
    schema={"type": "string"},
    example="hookledger_in_flight 0.0\n",
)


@endpoint(Access.OPEN, answers={200: HealthShape})
async def healthz(_request: web.Request) -> web.Response:
    """200 while the event loop runs."""
    return _ok()


@endpoint(Access.OPEN, answers={200: HealthShape, 503: UnreadyShape})
async def readyz(request: web.Request) -> web.Response:
    """200 if this process should get traffic, else 503 with the reasons."""
    reasons = await request.app[SERVICES].readiness()
    if reasons:
        unready: UnreadyShape = {"status": "unavailable", "reasons": reasons}
        return shapes.answer(unready, status=503)
    return _ok()


@endpoint(Access.METRICS, answers={200: METRICS})
async def metrics(request: web.Request) -> web.Response:
    """The Prometheus text format."""
    return web.Response(
        body=request.app[SERVICES].metrics.render(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


def _ok() -> web.Response:
    body: HealthShape = {"status": "ok"}
    return shapes.answer(body)
