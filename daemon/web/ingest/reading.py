"""Reads the events of a batch within limits, before one is stored: lines of NDJSON, or an array of CloudEvents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from daemon.core.events import cloud_event
from daemon.core.events.event import FieldProblem
from daemon.core.events.ndjson import Line, LineSplitter
from daemon.web.http.problems import Problem
from daemon.web.http.requests import bodies
from daemon.web.http.services import SERVICES
from daemon.web.ingest.batch import LINE_OVERHEAD_BYTES, YIELD_AFTER_BYTES, Batch

# Sizes of a batch in events of the greatest length (`events.max_bytes`). An array must be in memory whole before its
# first event is found, and an event is found before it is known to be too long: so it may have less.
BATCH_MAX_EVENT_SIZES = 256
ARRAY_MAX_EVENT_SIZES = 32

# Takes bytes of the budget. Raises Problem if too few are free.
Take = Callable[[int], None]


async def lines(request: web.Request, take: Take) -> Batch:
    """The lines of a body. Raises Problem for too many lines or bytes, or if they come too slowly."""
    limits = request.app[SERVICES].config.events
    splitter = LineSplitter(max_bytes=limits.max_bytes)
    batch = Batch()
    async for chunk in bodies.chunks(request, max_bytes=limits.max_bytes * BATCH_MAX_EVENT_SIZES):
        take(len(chunk))
        batch.lines += splitter.feed(chunk)
        _check_count(len(batch.lines), limits.batch_max)
        await asyncio.sleep(0)  # a body that is already buffered would block the event loop
    batch.lines += splitter.end()
    _check_count(len(batch.lines), limits.batch_max)
    return batch


async def array(request: web.Request, take: Take) -> bytes:
    """A body that should be an array. Raises Problem for too many bytes, or if they come too slowly."""
    limits = request.app[SERVICES].config.events
    raw = bytearray()
    async for chunk in bodies.chunks(request, max_bytes=limits.max_bytes * ARRAY_MAX_EVENT_SIZES):
        take(len(chunk))
        raw += chunk
    return bytes(raw)


async def elements(request: web.Request, raw: bytes) -> Batch:
    """The events of an array, as lines that are numbered from 1. Raises Problem for too many, or if it is no array."""
    limits = request.app[SERVICES].config.events
    batch = Batch()
    unyielded_bytes = 0
    try:
        for number, text in enumerate(cloud_event.elements(raw), start=1):
            kept = text if len(text) <= limits.max_bytes else None
            batch.lines.append(Line(number=number, text=kept, size_bytes=len(text)))
            _check_count(number, limits.batch_max)
            unyielded_bytes += len(text) + LINE_OVERHEAD_BYTES
            if unyielded_bytes >= YIELD_AFTER_BYTES:
                await asyncio.sleep(0)
                unyielded_bytes = 0
    except ValueError as error:
        problem = FieldProblem(field="", message=f"must be a JSON array of CloudEvents: {error}")
        raise Problem(422, "the batch is not valid; nothing was stored", errors=(problem,)) from error
    return batch


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise Problem(413, f"a batch may have {most} events; nothing was stored, send it in parts")
