"""An audit in several processes finds what one finds, in the same order, or fails."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from dataclasses import replace

import pytest

from daemon import audit
from daemon.audit import AuditPartFailed, AuditReport
from daemon.audit.pages import AuditScope, SeqRange
from daemon.audit.parts import parts
from daemon.audit.parts.part_messages import PartOrders
from daemon.cli.main import execute
from eventstore.postgres.errors import ChainBroken, StoreUnavailable
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver

# Each third outcome is gone, and each fifth says something else.
TAMPERED = """
DELETE FROM hookledger.attempt WHERE seq % 3 = 0;
UPDATE hookledger.attempt SET status_code = 500 WHERE seq % 5 = 0;
"""


@pytest.mark.parametrize(
    ("after", "upto", "processes"), [(0, 0, 4), (7, 8, 4), (0, 50_000, 2), (0, 50_001, 2), (10, 10_000_000, 3)]
)
def test_parts_are_all_of_it_in_order_and_none_of_it_twice(after: int, upto: int, processes: int) -> None:
    for count in (1, processes):
        split = parts.split(SeqRange(after=after, upto=upto), count)
        assert [each.after for each in split] == [after, *(each.upto for each in split)][: len(split)]
        assert [each.upto for each in split][-1:] == [upto] * bool(split)
        assert len(split) <= (count * parts.PARTS_EACH if count > 1 else 1)
        assert bool(split) is (upto > after)


async def furnish(it: PipelineProcess, url: str) -> None:
    """Two hundred events, each for two routes, and a change in between."""
    first = await it.route(url + "/a")
    await it.route(url + "/b", tenant="globex")
    for tenant in ("acme", "globex"):
        await it.publish(count=50, tenant=tenant)
    await it.edit(first, event_types=("order.*",))
    for tenant in ("acme", "globex"):
        await it.publish(count=50, tenant=tenant)
    await it.until_accounted()


async def audited(it: PipelineProcess, processes: int, **more: object) -> AuditReport:
    period = {"start": audit.BEGINNING, "end": audit.END}
    return await audit.audit(it.database, processes=processes, **{**period, **more})  # type: ignore[arg-type] # a period


async def test_several_processes_find_the_same_in_the_same_order(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "LEAST_SEQS", 7)
    started: list[Process] = []
    start = parts._start

    async def counted() -> Process:
        started.append(await start())
        return started[-1]

    monkeypatch.setattr(parts, "_start", counted)
    async with receiver() as there, pipeline_process(database_url) as it:
        await furnish(it, there.url)
        clean = await audited(it, 3)
        assert (clean.found, clean.gaps, clean.events, clean.deliveries) == (0, [], 200, 200)
        assert clean == await audited(it, 1)
        async with it.database.transaction() as connection:
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(TAMPERED)
        alone, together = await audited(it, 1), await audited(it, 3)
        assert together == alone
        assert together.found > 60
        assert await audited(it, 3, tenant="globex") == await audited(it, 1, tenant="globex")
    assert len(started) == 9
    assert all(process.returncode is not None for process in started)


async def test_what_is_listed_is_the_first_of_all(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = AuditReport()
    async with receiver() as there, pipeline_process(database_url) as it:
        await furnish(it, there.url)
        async with it.database.transaction() as connection:
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(TAMPERED)
        alone = await audited(it, 1)
    monkeypatch.setattr("daemon.audit.findings.LISTED_FINDINGS", 10)
    for _ in range(3):
        report.extend(replace(alone, findings=alone.findings[:10]))
    assert report.findings == alone.findings[:10]
    assert (report.found, report.events) == (3 * alone.found, 600)


async def test_a_process_that_is_killed_fails_the_audit(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = parts._start

    async def killed() -> Process:
        process = await start()
        process.kill()
        return process

    monkeypatch.setattr(parts, "_start", killed)
    monkeypatch.setattr(parts, "LEAST_SEQS", 7)
    async with receiver() as there, pipeline_process(database_url) as it:
        await furnish(it, there.url)
        with pytest.raises(AuditPartFailed, match=r"ended by signal 9 before it had judged its part"):
            await audited(it, 2)


NOWHERE = PartOrders(
    database_url="postgresql://127.0.0.1:9/none",
    scope=AuditScope(start=audit.BEGINNING, end=audit.END),
    schedule=None,
    ranges=(),
)


async def test_a_process_of_another_version_judges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "__version__", "0.0 of the past")
    with pytest.raises(AuditPartFailed, match="another version was installed while the audit ran") as failed:
        await parts.judged(NOWHERE, [SeqRange(after=0, upto=1)], 1)
    assert failed.value.hint == "repeat it"


async def test_a_process_without_its_database_says_so() -> None:
    with pytest.raises(StoreUnavailable):
        await parts.judged(NOWHERE, [SeqRange(after=0, upto=1)], 1)


async def test_a_process_that_reads_a_broken_log_says_where(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody rewrites the log after the audit has folded it, and before its processes do."""
    monkeypatch.setattr(parts, "LEAST_SEQS", 7)
    start = parts._start
    async with receiver() as there, pipeline_process(database_url, run=False) as it:
        await it.route(there.url)
        await it.publish(count=50)

        async def rewritten() -> Process:
            async with it.database.transaction() as connection:
                await connection.execute("SET LOCAL session_replication_role = replica")
                await connection.execute("UPDATE hookledger.route_event SET actor = 'mallory'")
            return await start()

        monkeypatch.setattr(parts, "_start", rewritten)
        with pytest.raises(ChainBroken, match="position 1 is not what was written") as broken:
            await audited(it, 2)
        assert broken.value.pos == 1


async def test_processes_end_when_the_audit_is_cancelled(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: asyncio.Queue[Process] = asyncio.Queue()
    start = parts._start

    async def frozen() -> Process:
        process = await start()
        process.send_signal(signal.SIGSTOP)
        started.put_nowait(process)
        return process

    monkeypatch.setattr(parts, "_start", frozen)
    monkeypatch.setattr(parts, "LEAST_SEQS", 7)
    async with pipeline_process(database_url, run=False) as it:
        await it.publish(count=50)
        auditing = asyncio.ensure_future(audited(it, 2))
        processes = [await started.get() for _ in range(2)]
        auditing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await auditing
        assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2


async def test_a_process_has_ended_when_another_one_fails_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a process that was killed is cancelled then, since their group has failed."""
    killed = await parts._start()
    killed.kill()
    wait, begun, gate, waits = Process.wait, asyncio.Event(), asyncio.Event(), iter(range(9))

    async def started() -> Process:
        return killed

    async def gated(process: Process) -> int:
        if next(waits) > 0:
            begun.set()
            await gate.wait()
        return await wait(process)

    monkeypatch.setattr(parts, "_start", started)
    monkeypatch.setattr(Process, "wait", gated)
    working = asyncio.ensure_future(parts._work(NOWHERE, iter([(0, SeqRange(after=0, upto=1))]), {}))
    await begun.wait()
    working.cancel()
    await asyncio.sleep(0)
    assert not working.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await working


def test_the_command_line_says_that_a_process_failed(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def failed(*_arguments: object) -> None:
        raise AuditPartFailed("a process of the audit ended by signal 9")

    async def published() -> None:
        async with pipeline_process(database_url, run=False) as it:
            await it.publish(count=50)

    asyncio.run(published())
    monkeypatch.setattr(parts, "judged", failed)
    monkeypatch.setattr(parts, "LEAST_SEQS", 7)
    monkeypatch.setenv("HOOKLEDGER_DATABASE__URL", database_url)
    assert execute(["audit", "--processes", "2"]) == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "error: a process of the audit ended by signal 9",
        "try: repeat it with fewer --processes, if memory is short",
    ]
