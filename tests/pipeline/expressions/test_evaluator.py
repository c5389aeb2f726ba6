"""The evaluation process: it is there when it is needed, dies without harm, and ends with the daemon."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvloop
from structlog.testing import capture_logs

from daemon import __version__
from daemon.core.events import field_condition
from daemon.core.messages.mapping import MappingFailed
from daemon.core.messages.message import Mappable
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook.payload import FilterResult, PayloadEvent, RenderError
from daemon.expressions import evaluator as evaluating
from daemon.expressions import messages
from daemon.expressions.evaluator import Evaluator
from daemon.expressions.messages import EvaluationJob, EvaluationReply, FilterJob, MapJob
from daemon.telemetry.metrics import Metrics
from tests.support.kafka.messages import mapping_of
from tests.support.processes.few_files import no_file_left
from tests.support.until import until

EVENT = PayloadEvent(
    event_id="evt_1",
    event_type="order.create",
    created=datetime(2026, 11, 23, tzinfo=UTC),
    data=b'{"a": [%s]}' % b",".join([b'"%s"' % (b"x" * 60)] * 3000),
    context=None,
    snapshot=None,
)
# About 30,000 steps each, of the 28,000 that the budget has: too many.
HEAVY = [f"data.object.a[?contains(to_string(@), '{number}')]" for number in range(8)]
BOMB = "|".join(["[@,@]"] * 60) + "|to_string(@)"


@asynccontextmanager
async def evaluator(*, idle_seconds: float = 60.0) -> AsyncIterator[Evaluator]:
    it = Evaluator(Metrics(), idle_seconds=idle_seconds)

    async def serve() -> None:
        while True:
            await it.run_once()

    task = asyncio.ensure_future(serve())
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert it.pid is None


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


async def test_no_process_is_started_before_there_is_something_heavy() -> None:
    async with evaluator() as it:
        await asyncio.sleep(0)
        assert it.pid is None
        assert await it.filter_results("acme", EVENT, ["id == 'evt_1'", "id == 'x'"]) == {
            "id == 'evt_1'": FilterResult.PASSES,
            "id == 'x'": FilterResult.STOPS,
        }
        assert it.pid is not None


async def test_it_ends_with_its_daemon() -> None:
    async with evaluator() as it:
        await it.filter_results("acme", EVENT, ["id"])
        pid = it.pid
        assert pid is not None
    assert not is_alive(pid)


async def test_it_ends_when_there_was_nothing_to_do_for_a_while_and_starts_again() -> None:
    async with evaluator(idle_seconds=0.01) as it:
        await it.filter_results("acme", EVENT, ["id"])
        await until(lambda: it.pid is None)
        assert await it.filter_results("acme", EVENT, ["id"]) == {"id": FilterResult.PASSES}


async def test_a_job_whose_process_is_killed_gets_its_result_from_the_next_one() -> None:
    async with evaluator() as it:
        await it.filter_results("acme", EVENT, ["id"])
        asked = asyncio.ensure_future(it.filter_results("acme", EVENT, HEAVY))
        first = it.pid
        assert first is not None
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        assert list(await asked) == HEAVY
        assert it.pid not in (None, first)


@pytest.mark.parametrize("left", [2, 4, 6])
def test_a_process_that_cannot_be_started_for_want_of_files_takes_none_for_ever(left: int) -> None:
    """Else each of two attempts a second would make the want larger. By the event loop of the daemon: it loses some."""
    with capture_logs() as logged, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(wanting_files(left, logged))


async def wanting_files(left: int, logged: Sequence[Mapping[str, object]]) -> None:
    async with evaluator() as it:
        await it.filter_results("acme", EVENT, ["id"])
        await it._end()
        before = open_files()
        with no_file_left(but=left):
            asked = asyncio.ensure_future(it.filter_results("acme", EVENT, ["id"]))
            await until(lambda: [line["event"] for line in logged].count("evaluator.died") == 3)
        assert await asked == {"id": FilterResult.PASSES}
        await it._end()
        assert open_files() == before


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_signals_for_the_daemon_do_not_end_it() -> None:
    async with evaluator() as it:
        await it.filter_results("acme", EVENT, ["id"])
        pid = it.pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        await it.filter_results("acme", EVENT, HEAVY[:1])
        assert it.pid == pid


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_it_knows_no_secret_of_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLEDGER_SIGNING__MASTER_KEY", "secret")
    monkeypatch.setenv("PGPASSWORD", "secret")
    async with evaluator() as it:
        await it.filter_results("acme", EVENT, ["id"])
        assert "secret" not in Path(f"/proc/{it.pid}/environ").read_text()


async def test_tenants_take_turns() -> None:
    async with evaluator() as it:
        done: list[str] = []

        async def one(tenant: str, filters: list[str]) -> None:
            await it.filter_results(tenant, EVENT, filters)
            done.append(tenant)

        await asyncio.gather(*(one("greedy", HEAVY) for _ in range(5)), one("modest", ["id"]))
        assert done[0] == "modest"


async def test_data_is_looked_into_for_a_field() -> None:
    payloads = [b'{"a":{"b":1.50}}', b"", b'{"a":{"b":1.5}}', b'{"a":{"b":"1.50"}}', b"["]
    async with evaluator() as it:
        fits = await it.fitting("acme", payloads, field_condition.parse("data.object.a.b = 1.50"))
        assert fits == (True, False, False, True, False)
        assert await it.fitting("acme", [], field_condition.parse("data.object.a = 1")) == ()


async def test_a_body_is_rendered_or_fails_with_a_reason() -> None:
    async with evaluator() as it:
        body = await it.render("acme", EVENT, PayloadOptions(transform="length(data.object.a)"), max_bytes=100)
        assert body == b"3000"
        with pytest.raises(RenderError, match="too many steps for an event of this size") as failed:
            await it.render("acme", EVENT, PayloadOptions(transform=BOMB), max_bytes=100)
        assert failed.value.is_over_budget


async def test_a_message_that_takes_two_processes_with_it_is_refused_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exchange = evaluating._exchange
    deaths: list[object] = []

    async def dies(process: Process, job: EvaluationJob) -> EvaluationReply:
        if not isinstance(job, MapJob):
            return await exchange(process, job)
        deaths.append(job)
        raise EOFError

    monkeypatch.setattr(evaluating, "_exchange", dies)
    message = Mappable(envelope=b'"key":null', value=b"{}")
    async with evaluator() as it:
        with pytest.raises(MappingFailed, match="the evaluation did not end"):
            await it.mapped("source shop", message, mapping_of(), max_bytes=1000)
        assert len(deaths) == 2
        assert await it.filter_results("acme", EVENT, HEAVY[:1])


async def test_a_job_that_takes_each_process_with_it_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = evaluating._exchange
    deaths = 0

    async def dies(process: Process, job: EvaluationJob) -> EvaluationReply:
        nonlocal deaths
        if isinstance(job, FilterJob) and job.filters == ("deadly",):
            deaths += 1
            raise EOFError
        return await exchange(process, job)

    monkeypatch.setattr(evaluating, "_exchange", dies)
    monkeypatch.setattr(evaluating, "PAUSE_SECONDS", 0.01)
    async with evaluator() as it, asyncio.timeout(30):
        deadly = asyncio.ensure_future(it.filter_results("reckless", EVENT, ["deadly"]))
        await until(lambda: deaths > 0)
        assert await it.filter_results("reckless", EVENT, ["id"]) == {"id": FilterResult.PASSES}
        assert await it.filter_results("acme", EVENT, ["id"]) == {"id": FilterResult.PASSES}
        seen = deaths
        await until(lambda: deaths > seen)  # and it has its turn again
        assert not deadly.done()
        deadly.cancel()


STRANGE_REPLIES = {
    "no JSON": b"\0\0\0\x02\0\0\0\0hi",
    "no object": b"\0\0\0\x02\0\0\0\0[]",
    "no known result": messages._frame({"results": ["perhaps"], "seconds": 0.0}),
    "no result": messages._frame({"results": [], "seconds": 0.0}),
    "too many results": messages._frame({"results": ["passes", "passes"], "seconds": 0.0}),
    "no number": messages._frame({"results": ["passes"], "seconds": "soon"}),
    "another kind": messages._frame({"fits": [True], "seconds": 0.0}),
    "nested": messages.LENGTHS.pack(100_000, 0) + b"[" * 100_000,
    "too long": messages.LENGTHS.pack(2, (1 << 32) - 1) + b"{}",
}


@pytest.mark.parametrize("reply", STRANGE_REPLIES.values(), ids=STRANGE_REPLIES.keys())
async def test_a_process_that_answers_something_else_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reply: bytes
) -> None:
    (tmp_path / "reply").write_bytes(reply)
    start = evaluating._start
    starts: list[Process] = []

    async def strange_at_first() -> Process:
        if starts:
            return await start()
        starts.append(
            await asyncio.create_subprocess_exec(
                *("sh", "-c", f"cat {tmp_path}/reply; cat > /dev/null"), stdin=PIPE, stdout=PIPE
            )
        )
        return starts[0]

    monkeypatch.setattr(evaluating, "_start", strange_at_first)
    monkeypatch.setattr(evaluating, "EXIT_SECONDS", 0.1)
    async with evaluator() as it, asyncio.timeout(20):
        assert await it.filter_results("acme", EVENT, ["id"]) == {"id": FilterResult.PASSES}
        assert it.pid != starts[0].pid
    assert starts[0].returncode is not None


async def test_a_process_of_another_version_gets_no_job_until_its_own_is_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluating, "OTHER_VERSION_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(evaluating, "__version__", "0.0 of the past")
    message = Mappable(envelope=b'"key":null', value=b"{}")
    refused = 0
    start = evaluating._start

    async def counted() -> Process:
        nonlocal refused
        refused += 1
        return await start()

    monkeypatch.setattr(evaluating, "_start", counted)
    async with evaluator() as it:
        filtered = asyncio.ensure_future(it.filter_results("acme", EVENT, ["id"]))
        mapped = asyncio.ensure_future(it.mapped("source shop", message, mapping_of(), max_bytes=1000))
        await until(lambda: refused > evaluating.MESSAGE_ATTEMPTS + 1, seconds=30)
        assert not filtered.done()
        assert not mapped.done()
        monkeypatch.setattr(evaluating, "__version__", __version__)
        assert await filtered == {"id": FilterResult.PASSES}
        await asyncio.wait([mapped])
    assert capsys.readouterr().out.count("evaluator.other_version") == 1
