"""Exports: a whole list as NDJSON or CSV, sent page by page while it is read, so that memory does not grow with it.

The first page is read before the answer begins: what is wrong until then is an ordinary error. Later the database may
be away for PATIENCE_SECONDS. An export that cannot go on ends without the end that HTTP demands, so that every client
sees that it is not whole.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

import orjson
import structlog
from aiohttp import web

from daemon.commands import Invalid
from daemon.core.events.event import FieldProblem
from daemon.web.access import auth
from daemon.web.http import problems
from daemon.web.http.paging import EXPORT
from daemon.web.http.problems import Problem
from daemon.web.http.requests.preferences import preferences
from eventstore.postgres.errors import StoreUnavailable

# Exports at once, of one tenant and of all.
MAX_EXPORTS_OF_TENANT = 2
MAX_EXPORTS = 8

# The items of one query. Longer pages would not be faster.
PAGE_ITEMS = 200

MAX_SECONDS = 3600.0
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 1.0
CHECK_SECONDS = 60.0
WRITE_TIMEOUT_SECONDS = 30.0

# A spreadsheet takes a text with such a beginning for a formula; one in Japanese also the wide forms. A quote before it
# makes it a text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
            "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip

log = structlog.get_logger(__name__)

RowT = TypeVar("RowT", bound=Mapping[str, object])
PositionT = TypeVar("PositionT")

# A page of a list from a position on, and the position of the next one, None if it is the last.
ReadPage = Callable[[PositionT | None, int], Awaitable[tuple[Sequence[RowT], PositionT | None]]]


class ExportFormat(StrEnum):
    """The content types of exports."""

    NDJSON = "application/x-ndjson"
    CSV = "text/csv"


BY_NAME: Mapping[str, ExportFormat] = {"ndjson": ExportFormat.NDJSON, "csv": ExportFormat.CSV}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export(Generic[RowT, PositionT]):
    """A list to export. `columns` are those of CSV: each with the path of its value in an item."""

    name: str
    columns: Mapping[str, tuple[str, ...]]
    read: ReadPage[PositionT, RowT]


@dataclass(slots=True)
class RunningExports:
    """How many exports run, by tenant. `is_stopping` is set when the process ends."""

    is_stopping: bool = False
    _by_tenant: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def one(self, tenant: str) -> Iterator[None]:
        """Counts an export of the tenant. Raises Problem if the tenant, or the process, has too many."""
        running = self._by_tenant
        if self.is_stopping or running[tenant] >= MAX_EXPORTS_OF_TENANT or running.total() >= MAX_EXPORTS:
            raise Problem(
                503, "too many exports run now: repeat this one later", headers={"Retry-After": "30"}, is_busy=True
            )
        running[tenant] += 1
        try:
            yield
        finally:
            running[tenant] -= 1
            if not running[tenant]:
                del running[tenant]


_RUNNING = web.AppKey("running_exports", RunningExports)


def set_up(application: web.Application) -> None:
    """Lets an application serve exports until it shuts down."""
    application[_RUNNING] = RunningExports()
    application.on_shutdown.append(_stop)


def negotiated(request: web.Request) -> ExportFormat | None:
    """The export format that the query names, or that Accept prefers to JSON; None for JSON."""
    name = request.query.get(EXPORT.name)
    if name is not None:
        return BY_NAME[name]
    wanted = preferences(request, "Accept")
    best = max(ExportFormat, key=lambda each: wanted.get(each, 0.0))
    of_json = max(wanted.get(name, 0.0) for name in ("application/json", "application/*", "*/*"))
    return best if wanted.get(best, 0.0) > of_json else None


async def stream(
    request: web.Request, export_format: ExportFormat, export: Export[RowT, PositionT]
) -> web.StreamResponse:
    """Sends the list. Raises Invalid, Problem and StoreUnavailable as long as nothing was sent."""
    extra = [name for name in ("limit", "cursor") if name in request.query]
    if extra:
        raise Invalid(tuple(FieldProblem(field=name, message="an export has no pages: leave it out") for name in extra))
    with request.app[_RUNNING].one(request.match_info["tenant"]):
        items, after = await export.read(None, PAGE_ITEMS)
        suffix = next(name for name, each in BY_NAME.items() if each is export_format)
        response = web.StreamResponse(
            headers={
                "Content-Type": f"{export_format}; charset=utf-8",
                "Content-Disposition": f'attachment; filename="{export.name}.{suffix}"',
                "Vary": "Accept",
                "X-Accel-Buffering": "no",
            }
        )
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        encode = _csv_of(export.columns) if export_format is ExportFormat.CSV else _ndjson
        try:
            async with asyncio.timeout(MAX_SECONDS):
                await _send(response, encode(items))
                async for page in _later(request, export, after):
                    await _send(response, encode(page))
        except (ConnectionError, TimeoutError, StoreUnavailable) as error:
            log.warning("export.cut", path=problems.shown_path(request), reason=str(error) or type(error).__name__)
            if request.transport is not None:
                request.transport.abort()
        return response


async def _later(
    request: web.Request, export: Export[RowT, PositionT], after: PositionT | None
) -> AsyncIterator[Sequence[RowT]]:
    """The pages after the first one. Raises ConnectionError when the reader's access has ended, or the process ends,
    and StoreUnavailable.
    """
    clock = asyncio.get_running_loop().time
    read_at = checked_at = clock()
    while after is not None:
        if request.app[_RUNNING].is_stopping:
            raise ConnectionError("the daemon is stopping")
        try:
            if clock() - checked_at >= CHECK_SECONDS:
                checked_at = clock()
                if await auth.has_ended(request):
                    raise ConnectionError("the access of the reader has ended")
            items, after = await export.read(after, PAGE_ITEMS)
        except StoreUnavailable:
            if clock() - read_at >= PATIENCE_SECONDS:
                raise
            await asyncio.sleep(RETRY_SECONDS)
            continue
        yield items
        read_at = clock()


async def _send(response: web.StreamResponse, lines: bytes) -> None:
    """Raises TimeoutError if the reader does not read them."""
    if lines:  # an empty chunk would be the end
        async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
            await response.write(lines)


def _ndjson(items: Sequence[Mapping[str, object]]) -> bytes:
    return b"".join(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in items)


def _csv_of(columns: Mapping[str, tuple[str, ...]]) -> Callable[[Sequence[Mapping[str, object]]], bytes]:
    """A function that encodes items as lines of CSV (RFC 4180), the first time with the names of the columns."""
    names: list[Sequence[str]] = [tuple(columns)]

    def encode(items: Sequence[Mapping[str, object]]) -> bytes:
        text = io.StringIO()
        lines = csv.writer(text)
        lines.writerows(names)
        names.clear()
        lines.writerows([_cell(item, path) for path in columns.values()] for item in items)
        return text.getvalue().encode()

    return encode


def _cell(item: Mapping[str, object], path: tuple[str, ...]) -> str:
    """The text of a value. What an item does not have is empty."""
    value: object = item
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() if value.startswith(_FORMULA):
            return f"'{value}"
        case _:
            return str(value)


async def _stop(application: web.Application) -> None:
    application[_RUNNING].is_stopping = True
