"""What `hookledger status` shows of an observation, and how it fills terminals of any size."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from daemon.cli.status import screen
from daemon.cli.status.observing import Observation
from daemon.cli.status.terminal import filled
from daemon.web.service.operator.installation import Installation, Throughput, per_second
from eventstore.queries.metrics.status import InstallationStatus, LogState, ProcessState, ShardStatus

NOW = datetime(2026, 11, 29, 8, 45, tzinfo=UTC)
OWNER = "node-1:4711:5f2c9a"
SHARD = ShardStatus(
    shard=0, owner=OWNER, epoch=1, expires_at=NOW, checkpoint=12345, lag_seconds=0.044, retrying=2, parked=1000
)
PROCESS = ProcessState(
    owner=OWNER,
    host="node-1",
    pid=4711,
    version="0.1.0",
    started_at=NOW,
    seen_at=NOW - timedelta(seconds=1),
    is_alive=True,
)
THROUGHPUT = Throughput(events=12, requests=11.94, unsuccessful=0.5, delivered=11.4, given_up=0, most_ms=45)


def report(**of_shard: dict[str, object]) -> InstallationStatus:
    """Sixteen shards with one owner; `s3={"owner": None}` changes one."""
    shards = [replace(SHARD, shard=n, **of_shard.get(f"s{n}", {})) for n in range(16)]  # type: ignore[arg-type] # fields of it
    log = LogState(at=NOW, tick=9, tick_at=NOW, tick_route_pos=3, route_pos=3, is_unread=False, oldest_seconds=90)
    return InstallationStatus(processes=(PROCESS,), shards=tuple(shards), log=log)


def observation(found: InstallationStatus, **more: object) -> Observation:
    parts: dict[str, object] = {"throughput": THROUGHPUT, "totals": None, "failing": None} | more
    warnings = parts.pop("warnings", ())
    return Observation(found=Installation(report=found, **parts), warnings=warnings)  # type: ignore[arg-type] # the same


def shown(seen: Observation, *, width: int, height: int, trouble: str | None = None) -> list[str]:
    """The lines on a terminal of that size."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    with console.capture() as capture:
        console.print(filled(seen, width=width, height=height, every_seconds=2, trouble=trouble))
    return capture.get().splitlines()


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([1, 0, 2], "0-2"), ([0, 1, 3, 5, 6], "0-1, 3, 5-6")]
)
def test_shards_are_written_as_spans(numbers: list[int], text: str) -> None:
    assert screen.spans(numbers) == text


def test_facts_stand_on_as_few_lines_as_fit() -> None:
    pairs = [("lag", "44 ms"), ("parked", "0"), ("retrying", "2")]
    assert screen.packed(pairs, width=80) == ["lag 44 ms   parked 0   retrying 2"]
    assert screen.packed(pairs, width=22) == ["lag 44 ms   parked 0", "retrying 2"]
    assert screen.packed(pairs, width=5) == ["lag 44 ms", "parked 0", "retrying 2"]


def test_the_numbers_of_all_shards_are_told_in_words() -> None:
    found = dict(screen.facts(observation(report(s7={"lag_seconds": 75.0})).found))
    assert found == {
        "lag": "1 min", "retrying": "32", "parked": "16,000", "oldest waiting": "1 min", "events": "12.0/s",
        "requests": "11.9/s", "unsuccessful": "0.50/s", "delivered": "11.4/s", "given up": "0.0/s", "95 % within": "45 ms",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.0"), (0.0166, "0.02"), (9.876, "9.88"), (11.94, "11.9"), (2400, "2,400.0")]
)
def test_what_is_seldom_is_not_shown_as_never(value: float, text: str) -> None:
    assert per_second(value) == text


def test_a_row_of_an_owner_adds_up_its_shards_and_what_nobody_owns_is_ill() -> None:
    grid = screen.owners(report(s3={"owner": None}, s4={"lag_seconds": 9.0}))
    assert [row[:5] for row in grid.rows] == [
        ("nobody", "3", "44 ms", "2", "1,000"),
        (OWNER, "0-2, 4-15", "9.0 s", "30", "15,000"),
    ]
    assert grid.unhealthy == {0}


def test_a_process_that_is_silent_or_lags_is_ill() -> None:
    assert screen.owners(replace(report(), processes=(replace(PROCESS, is_alive=False),))).unhealthy == {0}
    assert screen.shards(report(s5={"lag_seconds": 11.0}, s6={"owner": None})).unhealthy == {5, 6}


@pytest.mark.parametrize("width", [40, 80, 100, 200])
@pytest.mark.parametrize("height", [12, 24, 50])
def test_no_line_is_wider_than_the_terminal(width: int, height: int) -> None:
    seen = observation(report(s3={"owner": None}), warnings=("nobody delivers for shard 3 " * 9,), unread=("x" * 300,))
    assert max(map(len, shown(seen, width=width, height=height))) <= width


def test_a_high_terminal_has_a_row_for_each_shard_and_a_low_one_for_each_owner() -> None:
    high, low = (shown(observation(report()), width=100, height=height) for height in (40, 20))
    assert len([line for line in high if OWNER in line]) == 16
    assert len([line for line in low if OWNER in line]) == 1
    assert len(high) <= 40
    assert len(low) <= 20


def test_a_narrow_terminal_leaves_out_whole_columns() -> None:
    narrow, wide = ("\n".join(shown(observation(report()), width=width, height=40)) for width in (70, 120))
    assert "checkpoint" not in narrow
    assert "parked" in narrow
    assert "checkpoint" in wide
    assert "12,345" in wide


def test_of_many_warnings_some_are_shown_and_the_others_counted() -> None:
    lines = shown(observation(report(), warnings=tuple(f"warning {n}" for n in range(7))), width=80, height=24)
    assert [line.strip() for line in lines if line.startswith("!")] == [
        *(f"! warning {n}" for n in range(4)),
        "! and 3 more: --once has them all",
    ]


def test_what_could_not_be_read_is_said_where_warnings_are() -> None:
    lines = shown(observation(report(), throughput=None, unread=("the rates cannot be read now",)), width=80, height=24)
    assert "! the rates cannot be read now" in lines
    assert "requests" not in " ".join(lines).replace("requests in flight", "")


def test_a_look_of_before_says_so() -> None:
    assert "cannot be read since noon" in shown(
        observation(report()), width=80, height=24, trouble="cannot be read since noon"
    )


def test_a_name_of_a_merchant_cannot_move_the_cursor() -> None:
    stranger = replace(report(), processes=(replace(PROCESS, owner="\x1b[2J[red]"),))
    assert "\\x1b[2J[red]" in "\n".join(shown(observation(stranger), width=100, height=20))
