"""Says which alert rules of deploy/ fire on what a daemon really exposes while something is wrong, and afterwards.

Rules look at minutes and hours. So a phase of a few seconds is scraped twice and drawn out: counters and ages go on as
fast as they went between the two scrapes, and other gauges stay. `promtool` evaluates the rules on that.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from eventstore.domain_events.events import SHARDS
from tests.support.faults import prometheus
from tests.support.faults.system_under_test import SystemUnderTest

RULES = Path(__file__).parents[3] / "deploy" / "alerts.yaml"
_RULES = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule["alert"] for rule in _RULES]
SECONDS = 60.0
# Between the two scrapes of a phase.
PHASE_SECONDS = 1.0
# How often the second phase is taken again, if the event loop was late in it.
CALM_TRIES = 20
_QUERIED = {each.metric for rule in _RULES for each in prometheus.queried(rule["expr"])}
# Longer than any rule waits, and than any of them looks back.
WRONG_MINUTES, AFTERWARDS_MINUTES = 20, 75
_AGES = frozenset({"hookledger_seal_age_seconds"})
_GROWING = re.compile(r"_(total|bucket|count|sum)$")

Samples = dict[str, float]


@dataclass(kw_only=True)
class Timelapse:
    """The series of one daemon, a value for each minute; None where it did not answer."""

    minutes: int = 0
    _series: dict[str, list[float | None]] = field(default_factory=dict)

    def add(self, minutes: int, first: Samples, last: Samples, *, seconds: float) -> None:
        """Draws out what happened between two scrapes."""
        for name, value in last.items():
            family = name.partition("{")[0]
            grows = family in _AGES or _GROWING.search(family) is not None
            per_minute = (value - first.get(name, 0.0)) / seconds * 60 if grows else 0.0
            self._append(name, [value + per_minute * minute for minute in range(minutes)])
        self._append(_named("up", {}), [1.0] * minutes)
        self.minutes += minutes

    def add_silence(self, minutes: int) -> None:
        """Minutes in which nobody answered the scrapes."""
        self._append(_named("up", {}), [0.0] * minutes)
        self.minutes += minutes

    def _append(self, name: str, values: list[float]) -> None:
        known = self._series.setdefault(name, [])
        known += [None] * (self.minutes - len(known))
        known += values

    def problems(self, alert: str, *, at: int) -> str:
        """What promtool says against this: the alert fires in that minute, and at the end none does. Else empty."""
        expected = [(alert, at, 1), *((each, self.minutes - 1, 0) for each in ALERTS)]
        tests = [
            {
                "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": count}],
            }
            for name, minute, count in expected
        ]
        series = [
            {"series": name, "values": " ".join("_" if value is None else f"{value:.6f}" for value in values)}
            for name, values in self._series.items()
            if name.partition("{")[0] in _QUERIED
        ]
        test = {"interval": "1m", "input_series": series, "promql_expr_test": tests}
        document = {"rule_files": [str(RULES)], "evaluation_interval": "30s", "tests": [test]}
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(document, file)  # which is YAML, too
            file.flush()
            command = ["promtool", "test", "rules", file.name]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return "" if done.returncode == 0 else done.stdout + done.stderr


def samples(exposition: str) -> Samples:
    """The samples of an exposition, as a Prometheus stores them that scrapes it."""
    return {
        _named(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def _named(name: str, labels: dict[str, str]) -> str:
    own = labels | {"job": "hookledger", "instance": "a:8080"}
    inner = ",".join(f'{key}="{value}"' for key, value in own.items())
    return f"{name}{{{inner}}}"


def gauge(found: Samples, name: str) -> float:
    """The sum of all samples of a metric."""
    return sum(value for each, value in found.items() if each.partition("{")[0] == name)


def _late(found: Samples) -> float:
    """How often its event loop was later than the alert about that allows."""
    of_all = gauge(found, "hookledger_event_loop_lag_seconds_count")
    return of_all - sum(
        value
        for name, value in found.items()
        if name.startswith("hookledger_event_loop_lag_seconds_bucket{") and 'le="0.1"' in name
    )


class Watched:
    """What a daemon exposes in two phases: while something is wrong, and afterwards."""

    def __init__(self, system: SystemUnderTest) -> None:
        self.lapse = Timelapse()
        self._system = system

    async def scrape(self) -> Samples:
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        async with self._system.session.get(self._system.url + "/metrics", timeout=timeout) as answer:
            return samples(await answer.text())

    async def until(self, holds: Callable[[Samples], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not holds(await self.scrape()):
                await asyncio.sleep(0.25)  # each scrape takes milliseconds here and in the daemon

    async def note(self, minutes: int, *, meanwhile: Awaitable[object] | None = None) -> None:
        """Notes a phase: some seconds of it, or as long as something takes and until the gauges are counted again."""
        first, began = await self.scrape(), time.monotonic()
        await (asyncio.sleep(PHASE_SECONDS) if meanwhile is None else meanwhile)
        self.lapse.add(minutes, first, await self.scrape(), seconds=time.monotonic() - began)

    async def wrong(self, *, meanwhile: Awaitable[object] | None = None) -> None:
        await self.note(WRONG_MINUTES, meanwhile=meanwhile)

    async def afterwards(self) -> None:
        """What a healthy daemon exposes, once it has all shards."""
        await self.until(lambda found: gauge(found, "hookledger_shards_owned") == SHARDS)
        first, last, seconds = await self._phase()
        for _ in range(CALM_TRIES):  # beside other tests the machine may keep the daemon from its turn
            if _late(last) == _late(first):
                break
            first, last, seconds = await self._phase()
        self.lapse.add(AFTERWARDS_MINUTES, first, last, seconds=seconds)

    async def _phase(self) -> tuple[Samples, Samples, float]:
        first, began = await self.scrape(), time.monotonic()
        await asyncio.sleep(PHASE_SECONDS)
        return first, await self.scrape(), time.monotonic() - began

    def assert_fired_and_stopped(self, alert: str) -> None:
        """It fired at the end of the first phase, and none fires at the end of the second."""
        problems = self.lapse.problems(alert, at=WRONG_MINUTES - 1)
        assert not problems, problems
