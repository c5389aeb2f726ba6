"""`hookledger run --workers N`: one daemon in several processes, and what happens when one of them dies."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import shutil
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

from daemon import __version__
from daemon.workers import watchdog
from tests.support.processes.cli import CommandLine
from tests.support.processes.running import Running, running
from tests.support.receivers.receiver import Receiver, receiver
from tests.support.until import until

SECONDS = 30.0


def pids(daemon: Running) -> dict[int, int]:
    """Worker number → process id of its last start."""
    return {line["worker"]: line["pid"] for line in daemon.events("worker.started")}


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def may_listen(daemon: Running) -> bool:
    """Whether another daemon could have the address."""
    with suppress(OSError), socket.create_server(("127.0.0.1", URL(daemon.url).port or 0)):
        return True
    return False


@asynccontextmanager
async def client(daemon: Running) -> AsyncIterator[ClientSession]:
    """A client with a new connection for each request, so that any worker may answer it."""
    connector = TCPConnector(force_close=True)
    async with ClientSession(daemon.url, connector=connector, timeout=ClientTimeout(total=SECONDS)) as http:
        yield http


async def create_route(http: ClientSession, url: str, tenant: str) -> None:
    body = {"name": "a route", "target_url": url, "event_types": ["*"]}
    async with http.post(f"/v1/tenants/{tenant}/routes", json=body) as answer:
        assert answer.status == 201, await answer.text()


async def publish(http: ClientSession, tenants: list[str], *, count: int) -> set[str]:
    """Publishes `count` events for each tenant. Returns their ids."""
    ids = {f"{tenant}-{os.urandom(4).hex()}-{n}" for tenant in tenants for n in range(count)}
    lines = [json.dumps({"tenant": i.split("-")[0], "id": i, "type": "order.create", "data": {}}) for i in sorted(ids)]
    headers = {"Content-Type": "application/x-ndjson"}
    async with http.post("/v1/events", data="\n".join(lines), headers=headers) as answer:
        assert answer.status == 202, await answer.text()
        assert (await answer.json())["accepted"] == len(ids)
    return ids


def ids_of(there: Receiver) -> Counter[str]:
    return Counter(json.loads(got.body)["id"] for got in there.received)


async def metric(http: ClientSession, name: str) -> float:
    """The sum of a metric's samples."""
    async with http.get("/metrics") as answer:
        text = await answer.text()
    found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


async def until_metric(http: ClientSession, name: str, value: float) -> None:
    async with asyncio.timeout(SECONDS):
        while await metric(http, name) != value:
            await asyncio.sleep(0.1)


@pytest.fixture
def temporary(hookledger: CommandLine) -> Path:
    """The directory for a daemon's temporary files. None may be left in it."""
    directory = hookledger.home / "tmp"
    directory.mkdir()
    hookledger.environment["TMPDIR"] = str(directory)
    return directory


async def test_every_worker_answers_and_each_shows_the_sum_of_all(hookledger: CommandLine) -> None:
    tenants = [f"t{n}" for n in range(8)]
    async with receiver() as there, running(hookledger, "--workers", "2") as daemon, client(daemon) as http:
        assert sorted(pids(daemon)) == [0, 1]
        for tenant in tenants:
            await create_route(http, there.url, tenant)
        published = set()
        for _ in range(10):
            published |= await publish(http, tenants, count=2)
        await there.count(len(published), seconds=SECONDS)
        assert ids_of(there) == dict.fromkeys(published, 1)
        await until_metric(http, "hookledger_attempts_total", len(published))
        for _ in range(20):  # whichever worker answers
            assert await metric(http, "hookledger_events_published_total") == len(published)
            assert await metric(http, "hookledger_attempts_total") == len(published)
            assert await metric(http, "hookledger_attempt_duration_seconds_count") == len(published)
        await until_metric(http, "hookledger_shards_owned", 16)
        await until_metric(http, "hookledger_routes", len(tenants))
        for where in ("/healthz", "/readyz"):
            async with http.get(where) as answer:
                assert answer.status == 200
        assert await daemon.stop() == 0
        assert len(daemon.events("daemon.stopped")) == 2
        assert not any(is_alive(pid) for pid in pids(daemon).values())


async def test_a_worker_killed_is_started_anew_and_nothing_is_lost(hookledger: CommandLine) -> None:
    tenants = [f"t{n}" for n in range(8)]
    async with receiver() as there, running(hookledger, "--workers", "2") as daemon, client(daemon) as http:
        for tenant in tenants:
            await create_route(http, there.url, tenant)
        published = await publish(http, tenants, count=20)
        await there.count(40, seconds=SECONDS)
        before = pids(daemon)
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: pids(daemon)[0] != before[0], seconds=SECONDS)
        (died,) = daemon.events("worker.died")
        assert (died["worker"], died["pid"], died["code"]) == (0, before[0], -9)
        published |= await publish(http, tenants, count=20)
        await there.until(lambda: ids_of(there).keys() >= published, seconds=SECONDS)
        assert set(ids_of(there)) == published
        assert pids(daemon)[1] == before[1]
        # Its shards were not left to it until their leases expired.
        await until(lambda: daemon.events("process.found_dead") != [], seconds=SECONDS)
        (found,) = {line["owner"] for line in daemon.events("process.found_dead")}
        assert found.split(":")[1] == str(before[0])
        # The counters include those of the dead worker, the gauges do not.
        await until_metric(http, "hookledger_shards_owned", 16)
        assert await metric(http, "hookledger_events_published_total") == len(published)
        assert await daemon.stop() == 0


async def test_the_files_of_metrics_are_kept_from_who_cleans_up_and_workers_start_without_them_too(
    hookledger: CommandLine, temporary: Path
) -> None:
    async with running(hookledger, "--workers", "2") as daemon, client(daemon) as http:
        (directory,) = temporary.iterdir()
        descriptor = os.open(directory, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # as systemd-tmpfiles looks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        shutil.rmtree(directory)
        # What a worker says is lost if it is killed before that is written.
        await until(lambda: len(daemon.events("daemon.started")) == 2, seconds=SECONDS)
        for pid in pids(daemon).values():
            os.kill(pid, signal.SIGKILL)
        await until(lambda: len(daemon.events("daemon.started")) == 4, seconds=SECONDS)
        await until_metric(http, "hookledger_shards_owned", 16)
        assert await daemon.stop() == 0
    assert list(temporary.iterdir()) == []


@pytest.mark.long  # as long as the watchdog waits
async def test_a_worker_that_hangs_is_killed_and_started_anew(hookledger: CommandLine) -> None:
    async with receiver() as there, running(hookledger, "--workers", "2") as daemon, client(daemon) as http:
        await create_route(http, there.url, "acme")
        before = pids(daemon)
        os.kill(before[1], signal.SIGSTOP)
        await until(lambda: pids(daemon)[1] != before[1], seconds=3 * watchdog.PING_SECONDS * watchdog.MISSED_PINGS)
        (hanging,) = daemon.events("worker.hanging")
        assert (hanging["worker"], hanging["pid"]) == (1, before[1])
        assert pids(daemon)[0] == before[0]
        published = await publish(http, ["acme"], count=5)
        await there.until(lambda: ids_of(there).keys() >= published, seconds=SECONDS)
        assert await daemon.stop() == 0


async def test_a_stop_under_load_loses_nothing_and_repeats_nothing(hookledger: CommandLine) -> None:
    tenants = [f"t{n}" for n in range(8)]
    async with receiver() as there:
        async with running(hookledger, "--workers", "2") as daemon, client(daemon) as http:
            for tenant in tenants:
                await create_route(http, there.url, tenant)
            published = await publish(http, tenants, count=100)
            await there.count(100, seconds=SECONDS)
            assert await daemon.stop() == 0
        async with running(hookledger, "--workers", "2"):
            await there.count(len(published), seconds=SECONDS)
        assert ids_of(there) == dict.fromkeys(published, 1)


@dataclass
class Gate:
    """A receiver's answer that waits until the gate is opened."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, _request: web.Request) -> web.StreamResponse:
        await self.opened.wait()
        return web.Response()


@asynccontextmanager
async def under_way(daemon: Running, there: Receiver, gate: Gate) -> AsyncIterator[str]:
    """A request that the receiver has got and does not answer. Yields the id of its event."""
    there.answer["/"] = gate
    async with client(daemon) as http:
        await create_route(http, there.url + "/", "acme")
        (event_id,) = await publish(http, ["acme"], count=1)
        await there.count(1, seconds=SECONDS)
        yield event_id


async def test_a_process_that_evaluates_for_a_worker_has_no_file_of_it(hookledger: CommandLine) -> None:
    """It reads hostile input: what a worker has of its parent, and the addresses, are none of its business."""
    async with running(hookledger, "--workers", "2") as daemon, client(daemon) as http:
        hookledger.create_route("--filter", "length(data.object.n) > `1`")
        event = {"tenant": "acme", "type": "order.create", "data": {"n": list(range(20_000))}}
        async with http.post("/v1/events", json=event) as answer:
            assert answer.status == 202
        await until(lambda: daemon.events("evaluator.started"), seconds=SECONDS)
        files = {each.name: each.readlink() for each in Path(f"/proc/{evaluator_pid(daemon)}/fd").iterdir()}
        streams = {files.pop(number) for number in ("0", "1", "2")}
        assert set(files.values()) <= streams


def evaluator_pid(daemon: Running) -> int:
    pid: int = daemon.events("evaluator.started")[-1]["pid"]
    return pid


async def test_orphans_finish_record_and_leave_when_the_parent_is_killed(
    hookledger: CommandLine, temporary: Path
) -> None:
    gate = Gate()
    async with receiver() as there, running(hookledger, "--workers", "2") as daemon:
        async with under_way(daemon, there, gate) as event_id:
            daemon.kill()
            await until(lambda: len(daemon.events("worker.orphaned")) == 2, seconds=SECONDS)
            await until(lambda: may_listen(daemon), seconds=5.0)  # who takes their place need not wait for them
            gate.opened.set()
            await until(lambda: not any(is_alive(pid) for pid in pids(daemon).values()), seconds=SECONDS)
        assert len(daemon.events("daemon.stopped")) == 2
        (explained,) = hookledger("explain", event_id, "--json").json
        assert explained["decision"] == "delivered"
        assert list(temporary.iterdir()) == []


async def test_signals_that_reach_everybody_ask_each_worker_once(hookledger: CommandLine, temporary: Path) -> None:
    """As Ctrl-C in a terminal does, or a supervisor that signals every process."""
    gate = Gate()
    async with receiver() as there, running(hookledger, "--workers", "2") as daemon:
        async with under_way(daemon, there, gate) as event_id:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
                for pid in pids(daemon).values():
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
            daemon.process.send_signal(signal.SIGINT)
            await until(lambda: any("worker" not in line for line in daemon.events("daemon.stopping")))
            gate.opened.set()
            assert await asyncio.to_thread(daemon.process.wait, SECONDS) == 0
        (explained,) = hookledger("explain", event_id, "--json").json
        assert explained["decision"] == "delivered"
        assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_request_under_way_at_a_reload_is_finished_and_recorded_once(
    hookledger: CommandLine, workers: str
) -> None:
    gate = Gate()
    async with receiver() as there, running(hookledger, "--workers", workers) as daemon:
        async with under_way(daemon, there, gate) as event_id:
            daemon.process.send_signal(signal.SIGHUP)
            await until(lambda: len(daemon.events("lease.left")) == 1, seconds=SECONDS)
            gate.opened.set()
            await until(lambda: daemon.events("config.reloaded"), seconds=SECONDS)
            (explained,) = hookledger("explain", event_id, "--json").json
            assert explained["decision"] == "delivered"
        assert await daemon.stop() == 0
        assert ids_of(there) == {event_id: 1}


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_second_signal_stops_at_once_and_leaves_nothing_running(
    tmp_path: Path, data_dir: Path, temporary: Path, workers: str
) -> None:
    """Neither a worker nor the embedded PostgreSQL is left running."""
    hookledger = CommandLine(tmp_path, HOOKLEDGER_DATABASE__DATA_DIR=str(data_dir), TMPDIR=str(temporary))
    pid_file = data_dir / "postgres/postmaster.pid"
    gate = Gate()
    async with (
        receiver() as there,
        running(hookledger, "--workers", workers) as daemon,
        under_way(daemon, there, gate),
    ):
        server = int(pid_file.read_text().split()[0])
        daemon.process.send_signal(signal.SIGTERM)
        await until(lambda: daemon.events("daemon.stopping"), seconds=SECONDS)
        daemon.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(daemon.process.wait, SECONDS) == 1
        await until(lambda: not any(map(is_alive, pids(daemon).values())), seconds=SECONDS)
        await until(lambda: not is_alive(server), seconds=SECONDS)
        gate.opened.set()
    assert [line["event"] for line in daemon.lines()].count("daemon.killed") == 1
    assert list(temporary.iterdir()) == []
    # What was committed is there, and the next command that uses the server stops it as usual.
    assert len(hookledger("routes", "list", "--json").json) == 1
    assert not pid_file.exists()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_listener_for_operations_is_shared_likewise(hookledger: CommandLine, workers: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    hookledger.environment["HOOKLEDGER_SERVER__OPS_LISTEN"] = address
    async with running(hookledger, "--workers", workers) as daemon, ClientSession() as http:
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/v1/status", 404)):
            async with http.get(f"http://{address}{path}") as answer:
                assert answer.status == status, path
        async with http.get(daemon.url + "/metrics") as answer:
            assert answer.status == 404
        assert await daemon.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_on_which_somebody_listens_by_now_ends_the_start(hookledger: CommandLine, workers: str) -> None:
    """It can be bound as long as nobody listens: here by ourselves, for the other listener."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    hookledger.environment["HOOKLEDGER_SERVER__OPS_LISTEN"] = f"localhost:{port}"
    ended = hookledger("run", "--listen", f"127.0.0.1:{port}", "--workers", workers, code=1)
    assert f"error: cannot listen on localhost:{port}: Address already in use" in ended.err
    assert "ready" not in ended.out


def test_what_keeps_a_daemon_from_starting_is_said_once(hookledger: CommandLine, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = hookledger("run", "--workers", "2", "--listen", address, code=1)
        assert ended.err.count("error: ") == 1
        assert f"error: cannot listen on {address}" in ended.err
    nowhere = CommandLine(tmp_path, "postgresql://127.0.0.1:1/app")
    assert nowhere("run", "--workers", "2", "--listen", "127.0.0.1:0", code=69).err.startswith("error: ")
    assert "no orders" in nowhere("run", "--as-worker", __version__, code=2).err
    for version, starter in (("7.0",), "7.0"), ((), "an older one"):
        refused = nowhere("run", "--as-worker", *version, code=76).err
        assert f"error: this is Hookledger {__version__}, and it was started by {starter}\n" in refused


async def test_a_loop_that_fails_ends_the_process_with_one_line_that_says_why(
    hookledger: CommandLine, database_url: str
) -> None:
    process = hookledger.start("run", "--listen", "127.0.0.1:0")
    assert process.stdout is not None
    assert (await asyncio.to_thread(process.stdout.readline)).startswith("ready: ")
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE hookledger.lease RENAME TO lost")
    await connection.close()
    _, err = await asyncio.to_thread(process.communicate, timeout=SECONDS)
    assert process.returncode == 1
    lines = [json.loads(line) for line in err.splitlines()]
    (failed,) = [line for line in lines if line["level"] == "error"]
    assert failed["event"] == "daemon.failed"
    assert "lease" in failed["cause"]
