"""The table of limits in deploy/README.md, held against what the code allows."""

from __future__ import annotations

import pytest

from daemon import config
from daemon.core.gcra import Allowance
from daemon.web.access.guesses import WRONG
from daemon.web.access.limits import ALLOWANCES
from daemon.web.forms import request_forms
from daemon.web.forms.request_forms import MAX_BODY_BYTES, MAX_VALUES
from daemon.web.http.connections import MAX_HEAD_BYTES
from daemon.web.http.listeners import MAX_HEADERS, MAX_LINE_BYTES
from daemon.web.http.requests.turns import MAX_WAITING_BYTES, PATIENCE_SECONDS, PLACE_PATIENCE_SECONDS, SHORT_BYTES
from daemon.web.ingest.reading import ARRAY_MAX_EVENT_SIZES, BATCH_MAX_EVENT_SIZES
from daemon.web.service.events.feed_pages import MAX_WAITING, MAX_WAITING_OF_TENANT
from daemon.web.service.exports import MAX_EXPORTS, MAX_EXPORTS_OF_TENANT
from tests.support.processes.documents import DEPLOY

DEFAULTS = config.load(None, {"HOME": "/home/anybody"})


def rows() -> dict[str, str]:
    """The defaults of the table by what they limit."""
    section = (DEPLOY / "README.md").read_text().partition("\n## Limits\n")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.split("|")] for line in section.splitlines() if line.startswith("| ")]
    return {row[1]: row[2] for row in cells[1:]}


def rates(allowances: list[Allowance]) -> str:
    bursts = ", ".join(str(each.burst) for each in allowances)
    return f"{bursts} at once, then one in {', '.join(f'{1 / each.per_second:g}' for each in allowances)} s"


@pytest.mark.parametrize(
    ("limited", "default"),
    [
        ("routes of a tenant", f"{DEFAULTS.limits.routes_per_tenant:,}"),
        ("changes of a tenant's routes, per minute and process", str(DEFAULTS.limits.commands_per_minute)),
        ("event, batch", f"{DEFAULTS.events.max_bytes >> 10} KiB, {DEFAULTS.events.batch_max:,}"),
        (
            "connections of clients, per process",
            f"{DEFAULTS.server.max_connections:,}, less if few files may be open",
        ),
        (
            "head of a request",
            f"about {MAX_HEAD_BYTES >> 10} KiB, {MAX_HEADERS} lines of {MAX_LINE_BYTES:,} bytes",
        ),
        (
            "wrong tokens, sessions and links of one address, as `server.trusted_proxies` name it, per process",
            f"{WRONG.burst}, then one a second",
        ),
        (
            "of one tenant, per process: keys shown, test events, previews, replays, searches for the id of a delivery",
            rates(list(ALLOWANCES.values())),
        ),
        ("exports at once, of one tenant, per process", f"{MAX_EXPORTS}, {MAX_EXPORTS_OF_TENANT}"),
        (
            "queries at once, of one tenant",
            f"{DEFAULTS.database.query_connections}, {DEFAULTS.database.query_connections // 2}",
        ),
        ("requests that wait at a feed, of one tenant, per process", f"{MAX_WAITING_OF_TENANT}, {MAX_WAITING}"),
        ("body of a command; values in it", f"{MAX_BODY_BYTES >> 10} KiB; {MAX_VALUES:,}"),
        (
            (
                f"events of more than {SHORT_BYTES >> 10} KiB and commands of more than "
                f"{request_forms.SHORT_BYTES >> 10} KiB, of a caller who is bound to one tenant, in the event loop"
            ),
            (
                f"one after the other, half of the time, and one batch; {MAX_WAITING_BYTES >> 20} MiB, and "
                f"{PATIENCE_SECONDS:g} s of waiting, {PLACE_PATIENCE_SECONDS:g} s of a batch"
            ),
        ),
        ("body of a batch of NDJSON", f"{BATCH_MAX_EVENT_SIZES} × `events.max_bytes`"),
        ("body of an array of CloudEvents", f"{ARRAY_MAX_EVENT_SIZES} × `events.max_bytes`"),
    ],
)
def test_a_limit_is_what_the_table_says(limited: str, default: str) -> None:
    assert rows()[limited] == default
