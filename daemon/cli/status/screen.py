"""What is shown of an observation, as texts: facts and tables. Pure; who prints them cuts them to the terminal.

A column that a narrow terminal has no place for says from which width on it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from daemon.core import durations
from daemon.core.sentences.failures import explain_error, status_text
from daemon.core.webhook import egress
from daemon.web.service.operator import status_warnings
from daemon.web.service.operator.failing import FailingItem
from daemon.web.service.operator.installation import Installation, per_second
from eventstore.queries.metrics.status import InstallationStatus, ShardStatus

_NOBODY = "nobody"

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column. `from_width` is the width of the terminal from which on it is shown."""

    name: str
    is_number: bool = False
    from_width: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table. `unhealthy` are the indexes of the rows that need a person."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    unhealthy: frozenset[int] = frozenset()

    def head(self, rows: int) -> Grid:
        """Its first rows."""
        return Grid(columns=self.columns, rows=self.rows[:rows], unhealthy=self.unhealthy)


def facts(found: Installation) -> list[tuple[str, str]]:
    """The numbers of the whole installation, with their names."""
    report, throughput, totals = found.report, found.throughput, found.totals
    told = [
        ("lag", durations.age(report.lag_seconds)),
        ("retrying", f"{report.retrying:,}"),
        ("parked", f"{report.parked:,}"),
        ("oldest waiting", durations.age(report.oldest_seconds) if report.retrying or report.parked else "none"),
    ]
    if totals is not None:
        told.append(("failing", f"{totals.failing:,}, {totals.down:,} of them down" if totals.failing else "none"))
    if throughput is not None:
        told += [
            ("events", f"{per_second(throughput.events)}/s"),
            ("requests", f"{per_second(throughput.requests)}/s"),
            ("unsuccessful", f"{per_second(throughput.unsuccessful)}/s"),
            ("delivered", f"{per_second(throughput.delivered)}/s"),
            ("given up", f"{per_second(throughput.given_up)}/s"),
        ]
        if throughput.most_ms is not None:
            told.append(("95 % within", durations.shown(throughput.most_ms)))
    return told


def shards(report: InstallationStatus) -> Grid:
    """A row for each shard."""
    columns = (
        Column(name="shard", is_number=True),
        Column(name="owner"),
        Column(name="lag", is_number=True),
        Column(name="retrying", is_number=True),
        Column(name="parked", is_number=True),
        Column(name="checkpoint", is_number=True, from_width=90),
        Column(name="epoch", is_number=True, from_width=100),
    )
    rows = [(str(s.shard), s.owner or _NOBODY, *_load([s]), f"{s.checkpoint:,}", f"{s.epoch:,}") for s in report.shards]
    return Grid(
        columns=columns, rows=rows, unhealthy=_indexes(not status_warnings.is_healthy(each) for each in report.shards)
    )


def owners(report: InstallationStatus) -> Grid:
    """A row for each process, below one for what nobody owns."""
    columns = (
        Column(name="owner"),
        Column(name="shards"),
        Column(name="lag", is_number=True),
        Column(name="retrying", is_number=True),
        Column(name="parked", is_number=True),
        Column(name="version", from_width=90),
        Column(name="seen", is_number=True, from_width=100),
    )
    processes = {process.owner: process for process in report.processes}
    by_owner: dict[str | None, list[ShardStatus]] = {owner: [] for owner in (None, *processes)}
    for shard in report.shards:
        by_owner.setdefault(shard.owner, []).append(shard)
    if not by_owner[None]:
        del by_owner[None]
    rows, is_unhealthy = [], []
    for owner, owned in by_owner.items():
        process = None if owner is None else processes.get(owner)
        seen = ("", "") if process is None else (process.version, _ago(report.log.at, process.seen_at))
        rows.append((owner or _NOBODY, spans(each.shard for each in owned) or "none", *_load(owned), *seen))
        is_lost = process is not None and not process.is_alive
        is_unhealthy.append(is_lost or not all(map(status_warnings.is_healthy, owned)))
    return Grid(columns=columns, rows=rows, unhealthy=_indexes(is_unhealthy))


def failing(items: Sequence[FailingItem], *, at: datetime) -> Grid:
    """A row for each route that fails, the worst first."""
    columns = (
        Column(name="webhook"),
        Column(name="tenant"),
        Column(name="is"),
        Column(name="since", is_number=True),
        Column(name="last answer"),
        Column(name="waiting", is_number=True),
        Column(name="target", from_width=120),
        Column(name="id", from_width=160),
    )
    rows = [
        (
            item.route.config.name,
            item.route.tenant,
            item.health.state.value,
            "" if item.health.since is None else _ago(at, item.health.since),
            _answer(item),
            f"{'' if item.health.waiting.is_exact else 'over '}{item.health.waiting.number:,}",
            egress.mask_query(item.route.config.target_url),
            str(item.route.id),
        )
        for item in items
    ]
    return Grid(columns=columns, rows=rows, unhealthy=_indexes(item.health.is_down for item in items))


def spans(numbers: Iterable[int]) -> str:
    """0-3, 5, 8-9."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def packed(pairs: Sequence[tuple[str, str]], *, width: int) -> list[str]:
    """The facts on as few lines as a terminal of that width needs."""
    lines: list[str] = []
    for name, value in pairs:
        text = f"{name} {value}"
        if lines and len(lines[-1]) + 3 + len(text) <= width:
            lines[-1] += f"   {text}"
        else:
            lines.append(text)
    return lines


def _load(owned: Sequence[ShardStatus]) -> Row:
    lag = durations.age(max((each.lag_seconds for each in owned), default=0.0))
    return lag, f"{sum(each.retrying for each in owned):,}", f"{sum(each.parked for each in owned):,}"


def _answer(item: FailingItem) -> str:
    answer = item.health.last_answer
    if answer is None:
        return ""
    return status_text(answer.status_code or 0) if answer.error is None else explain_error(answer.error).short


def _ago(at: datetime, then: datetime) -> str:
    return durations.age(max(0.0, (at - then).total_seconds()))


def _indexes(flags: Iterable[bool]) -> frozenset[int]:
    return frozenset(index for index, flag in enumerate(flags) if flag)
