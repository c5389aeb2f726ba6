"""For whoever runs the daemon: alive, ready, metrics."""

from __future__ import annotations

from aiohttp import web

from daemon.web import shapes
from daemon.web.endpoints import Access, endpoint
from daemon.web.services import SERVICES


@endpoint(Access.OPEN)
async def healthz(_request: web.Request) -> web.Response:
    """The event loop runs: that it answers is the answer."""
    return shapes.answer({"status": "ok"})


@endpoint(Access.OPEN)
async def readyz(request: web.Request) -> web.Response:
    """200 if this process should get traffic, else 503 with the reasons."""
    reasons = await request.app[SERVICES].readiness()
    if reasons:
        return shapes.answer({"status": "unavailable", "reasons": reasons}, status=503)
    return shapes.answer({"status": "ok"})


@endpoint(Access.METRICS)
async def metrics(request: web.Request) -> web.Response:
    """The Prometheus text format."""
    return web.Response(
        body=request.app[SERVICES].metrics.render(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )
