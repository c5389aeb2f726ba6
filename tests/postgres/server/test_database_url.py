"""What a URL may ask for: libpq's parameters, several servers, and never a pooler."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from eventstore.postgres import listen
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import FormerPrimary, MalformedUrl, StoreUnavailable, UnsafeServer
from eventstore.postgres.servers import dialing
from eventstore.postgres.servers.database_url import parsed
from tests.support.postgres.fault_proxy import FaultProxy, fault_proxy
from tests.support.values.certificates import issue, pem, private_pem, serving


async def answer(url: str, query: str) -> object:
    database = Database(url, pool_size=1)
    await database.open()
    try:
        async with database.connection() as connection:
            return await connection.fetchval(query)
    finally:
        await database.close()


def with_parameters(url: str, text: str) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{text}"


@pytest.mark.parametrize("parameters", [
    "connect_timeout=5", "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3", "tcp_user_timeout=9000",
    "sslmode=prefer&channel_binding=prefer", "gssencmode=disable", "client_encoding=utf8", "target_session_attrs=read-write",
    "load_balance_hosts=disable", "sslmode=disable&fallback_application_name=shop",
])  # fmt: skip
async def test_what_libpq_takes_and_changes_nothing_here_is_taken(database_url: str, parameters: str) -> None:
    assert await answer(with_parameters(database_url, parameters), "SELECT 1") == 1


def test_a_user_id_without_a_name_and_a_home_is_told_what_the_url_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a number."""

    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PGUSER", raising=False)
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    monkeypatch.setattr("getpass.getuser", no_name)
    monkeypatch.setattr("pathlib.Path.home", no_home)
    with pytest.raises(MalformedUrl, match="names no role") as refusal:
        dialer("postgresql://db.example/app")
    assert "postgresql://ROLE@host/name" in refusal.value.hint
    with pytest.raises(MalformedUrl, match="names no file with the authorities"):
        dialer("postgresql://me@db.example/app?sslmode=verify-full")
    for url in ("postgresql://me@db.example/app", "postgresql:///app?user=me", "postgresql:///app?service=mine"):
        dialer(url)
    monkeypatch.setenv("PGUSER", "me")
    dialer("postgresql://db.example/app")


def dialer(url: str) -> dialing.Dialer:
    return dialing.Dialer(url, where="there", settings={}, seconds=1.0)


async def test_a_setting_of_the_server_is_set_but_never_one_of_ours(database_url: str) -> None:
    url = with_parameters(database_url, "work_mem=7MB&timezone=Europe/Paris&application_name=a+b")
    assert await answer(url, "SHOW work_mem") == "7MB"
    assert await answer(url, "SHOW timezone") == "UTC"


@pytest.mark.parametrize(("parameter", "value"), [
    ("channel_binding", "require"), ("gssencmode", "require"), ("require_auth", "scram-sha-256"), ("requirepeer", "postgres"),
    ("client_encoding", "latin1"), ("replication", "database"), ("requiressl", "1"),
])  # fmt: skip
def test_what_cannot_be_kept_is_refused_by_name(parameter: str, value: str) -> None:
    with pytest.raises(MalformedUrl, match=parameter) as refusal:
        parsed(f"postgresql://me:s3cret@host/x?{parameter}={value}")
    assert refusal.value.hint
    assert "s3cret" not in f"{refusal.value}"


@pytest.mark.parametrize(("parameter", "value", "hint"), [
    ("sslmode", "perhaps", "verify-full"), ("sslmode", "", "verify-full"), ("target_session_attrs", "writable", "read-write"),
    ("sslnegotiation", "tls", "direct"), ("ssl_min_protocol_version", "1.2", "TLSv1.2"), ("sslrootcert", "system", "/etc/ssl"),
])  # fmt: skip
def test_a_value_that_a_parameter_cannot_have_is_refused_by_the_name_of_it(
    parameter: str, value: str, hint: str
) -> None:
    with pytest.raises(MalformedUrl, match=parameter) as refusal:
        parsed(f"postgresql://me:s3cret@host/x?{parameter}={value}")
    assert hint in refusal.value.hint
    assert "s3cret" not in f"{refusal.value}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files for TLS: an authority, a certificate that belongs to no key here, and a text."""
    (tmp_path / "authority").write_bytes(pem(issue("authority")))
    (tmp_path / "certificate").write_bytes(pem(issue("client")))
    (tmp_path / "key").write_bytes(private_pem(issue("other")))
    (tmp_path / "text").write_text("no certificate")
    return tmp_path


@pytest.mark.parametrize(("parameters", "message"), [
    ("sslrootcert={}/nothing", "a file in sslrootcert that cannot be read: No such file"),
    ("sslrootcert={}/text", "a file in sslrootcert that cannot be used for TLS"),
    ("sslrootcert={}/authority&sslcrl={}/text", "a file in sslcrl that cannot be used for TLS"),
    ("sslcert={}/certificate&sslkey={}/nothing", "a file in sslcert or sslkey that cannot be read: No such file"),
    ("sslcert={}/certificate&sslkey={}/key", "a file in sslcert or sslkey that cannot be used for TLS"),
    ("sslcert={}/certificate", "a file in sslcert that cannot be used for TLS"),
])  # fmt: skip
async def test_a_file_for_tls_that_is_of_no_use_is_no_outage(folder: Path, parameters: str, message: str) -> None:
    with pytest.raises(MalformedUrl, match=message) as refusal:
        await answer(f"postgresql://127.0.0.1:1/x?sslmode=require&{parameters.replace('{}', str(folder))}", "SELECT 1")
    assert refusal.value.hint


async def test_a_server_cannot_be_verified_without_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    with pytest.raises(MalformedUrl, match="names no file with the authorities") as refusal:
        await answer("postgresql://127.0.0.1:1/x?sslmode=verify-full", "SELECT 1")
    assert "sslrootcert" in refusal.value.hint


def test_a_channel_needs_no_binding_to_a_server_that_is_proved() -> None:
    assert parsed("postgresql://host/x?sslmode=verify-full&channel_binding=require").settings == {}


@asynccontextmanager
async def server_with(certificate: ssl.SSLContext) -> AsyncIterator[int]:
    """The port of a server that begins TLS as PostgreSQL does, and says nothing more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(8)
            writer.write(b"S")
            await writer.start_tls(certificate)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize(("host", "days_left", "is_known", "said"), [
    ("127.0.0.1", 1, True, "not valid for '127.0.0.1'"), ("localhost", -1, True, "expired"),
    ("localhost", 1, False, "self-signed|self signed|issuer"),
])  # fmt: skip
async def test_a_certificate_that_proves_nothing_is_an_outage_that_says_why(
    tmp_path: Path, host: str, days_left: int, is_known: bool, said: str
) -> None:
    """No mistake in the URL: the server's certificate may expire while a daemon runs, and is mended there."""
    served, authorities = issue("localhost", days_left=days_left), tmp_path / "ca.pem"
    authorities.write_bytes(pem(served if is_known else issue("another")))
    async with server_with(serving(served, tmp_path)) as port:
        with pytest.raises(StoreUnavailable, match=f"does not prove who it is: .*({said})") as refusal:
            await answer(
                f"postgresql://me:s3cret@{host}:{port}/x?sslmode=verify-full&sslrootcert={authorities}", "SELECT 1"
            )
    assert "sslrootcert" in refusal.value.hint
    assert "s3cret" not in f"{refusal.value}"


async def test_a_file_that_goes_away_later_is_an_outage_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewal of a certificate may take the file away for a moment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    authorities = tmp_path / ".postgresql" / "root.crt"
    authorities.parent.mkdir()
    for parameter, said in ((f"&sslrootcert={authorities}", f"sslrootcert.*{authorities}"), ("", "authorities")):
        authorities.write_bytes(pem(issue("localhost")))
        url = f"postgresql://me:s3cret@127.0.0.1:1/x?sslmode=verify-full{parameter}"
        dialer = dialing.Dialer(url, where="here", settings={}, seconds=10)
        authorities.unlink()
        with pytest.raises(StoreUnavailable, match=said) as refusal:
            await dialer()
        assert "s3cret" not in f"{refusal.value}"


async def test_a_parameter_that_nobody_knows_is_named(database_url: str) -> None:
    with pytest.raises(MalformedUrl, match="work_memory") as refusal:
        await answer(with_parameters(database_url, "work_memory=7MB"), "SELECT 1")
    assert refusal.value.hint


def test_every_server_gets_the_same_user_and_parameters() -> None:
    assert parsed("postgresql://me:pw@a:1,b,[::1]:3/shop?sslmode=require&connect_timeout=2").servers == (
        "postgresql://me:pw@a:1/shop?sslmode=require",
        "postgresql://me:pw@b/shop?sslmode=require",
        "postgresql://me:pw@[::1]:3/shop?sslmode=require",
    )


@pytest.mark.parametrize(("query", "places"), [
    ("host=a,b", ["a", "b"]), ("host=a,b&port=1", ["a:1", "b:1"]), ("host=a,::1,/tmp&port=1,2,", ["a:1", "[::1]:2", "%2Ftmp"]),
    ("host=a", ["a"]), ("port=1", [""]),
])  # fmt: skip
def test_hosts_may_stand_in_the_parameters(query: str, places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rest = "&port=1" if query == "port=1" else ""
    assert parsed(f"postgresql://me:pw@/shop?sslmode=require&{query}").servers == tuple(
        f"postgresql://me:pw@{place}/shop?sslmode=require{rest}" for place in places
    )
    monkeypatch.setenv("PGHOST", "other,others")
    if "host" in query:
        assert parsed(f"postgresql:///shop?{query}").servers == tuple(f"postgresql://{place}/shop" for place in places)


def test_hosts_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "a,b")
    monkeypatch.setenv("PGPORT", "1,2")
    assert parsed("postgresql:///shop").servers == ("postgresql://a:1/shop", "postgresql://b:2/shop")
    assert parsed("postgresql://c/shop").servers == ("postgresql://c/shop",)
    assert len(parsed("postgresql:///shop?service=s").servers) == 1


def test_each_host_needs_a_port_or_all_of_them_one() -> None:
    with pytest.raises(MalformedUrl, match="3 hosts and 2 ports"):
        parsed("postgresql:///shop?host=a,b,c&port=1,2")


@contextmanager
def silent_server() -> Iterator[int]:
    """A port whose connections are taken by the system and answered by nobody, as of a host that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_server_that_hangs_or_is_gone_does_not_use_up_the_time_of_the_next(database_url: str) -> None:
    async with fault_proxy(database_url) as proxy:
        here = urlsplit(proxy.url)
        with silent_server() as silent, socket.create_server(("127.0.0.1", 0)) as closed:
            gone = closed.getsockname()[1]
            closed.close()
            places = f"{here.username}@127.0.0.1:{gone},127.0.0.1:{silent},127.0.0.1:{here.port}"
            database = Database(here._replace(netloc=places).geturl(), pool_size=2)
            await database.open()
            try:
                for _ in range(2):  # the second connection goes to the server that was found
                    async with database.connection() as connection, database.connection() as other:
                        assert await connection.fetchval("SELECT 1") == await other.fetchval("SELECT 1") == 1
            finally:
                await database.close()


@asynccontextmanager
async def two_primaries(
    url: str, monkeypatch: pytest.MonkeyPatch, *, former: int = 7
) -> AsyncIterator[list[FaultProxy]]:
    """Two ways to the server, in the order of the URL. What comes by the first one is shown an earlier timeline."""

    async def timeline(connection: asyncpg.Connection) -> int:
        port = connection._addr[1]  # type: ignore[attr-defined] # of the driver
        return former if port == urlsplit(first.url).port else 8

    async with fault_proxy(url) as first, fault_proxy(url) as second:
        monkeypatch.setattr(dialing, "_timeline", timeline)
        yield [first, second]


def url_of(proxies: list[FaultProxy]) -> str:
    here = urlsplit(proxies[0].url)
    places = ",".join(f"127.0.0.1:{urlsplit(proxy.url).port}" for proxy in proxies)
    return here._replace(netloc=f"{here.username}@{places}").geturl()


async def test_of_two_servers_that_take_writes_the_one_that_was_promoted_is_used(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A primary that failed was started again: what it gets would be lost, and the other one does not know of it."""
    async with two_primaries(database_url, monkeypatch) as (first, second):
        assert await answer(url_of([first, second]), "SELECT 1") == 1
        database = Database(url_of([first, second]), pool_size=1)
        await database.open()
        second.cut()
        with pytest.raises(StoreUnavailable, match="former primary") as refusal:
            await answer(url_of([first, second]), "SELECT 1")
        assert "pg_rewind" in refusal.value.hint
        with pytest.raises(StoreUnavailable):
            async with database.connection() as connection:
                await connection.fetchval("SELECT 1")
        with pytest.raises(StoreUnavailable, match="former primary"):
            async with database.connection():
                pass
        second.restore()
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT 1") == 1
        await database.close()


async def test_of_hosts_in_the_parameters_the_one_that_was_promoted_is_used(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_primaries(database_url, monkeypatch) as (first, second):
        here, there = urlsplit(first.url), urlsplit(second.url)
        url = f"postgresql://{here.username}@{here.path}?host={here.hostname},{there.hostname}&port={here.port},{there.port}"
        assert await answer(url, "SELECT 1") == 1
        second.cut()
        with pytest.raises(StoreUnavailable, match="former primary"):
            await answer(url, "SELECT 1")


async def test_hosts_and_ports_of_the_environment_are_connected_to(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fault_proxy(database_url) as proxy:
        here = urlsplit(proxy.url)
        monkeypatch.setenv("PGHOST", "127.0.0.1,127.0.0.1")
        monkeypatch.setenv("PGPORT", f"1,{here.port}")
        assert await answer(f"postgresql://{here.username}@{here.path}", "SELECT 1") == 1


class History:
    """What servers say of themselves to connections that are made from now on."""

    timeline = 7
    cluster = "one"

    async def of_timeline(self, _connection: asyncpg.Connection) -> int:
        return self.timeline

    async def of_cluster(self, _connection: asyncpg.Connection) -> str:
        return self.cluster


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> History:
    told = History()
    monkeypatch.setattr(dialing, "_newest", {})
    monkeypatch.setattr(dialing, "_promoted", set())
    monkeypatch.setattr(dialing, "_timeline", told.of_timeline)
    monkeypatch.setattr(dialing, "_cluster", told.of_cluster)
    monkeypatch.setattr(dialing, "_is_socket", lambda _server: False)
    return told


async def test_a_name_that_leads_back_to_a_former_primary_is_not_followed(database_url: str, history: History) -> None:
    history.timeline = 8
    assert await answer(database_url, "SELECT 1") == 1
    history.timeline = 7
    with pytest.raises(StoreUnavailable, match="former primary"):
        await answer(database_url, "SELECT 1")
    history.timeline = 8
    assert await answer(database_url, "SELECT 1") == 1


async def test_connections_to_a_former_primary_are_not_used_once_another_one_was_seen(
    database_url: str, history: History
) -> None:
    used, other = Database(database_url, pool_size=1), Database(database_url, pool_size=1)
    for database in (used, other):
        await database.open()
    try:
        async with used.connection() as connection:
            before = await connection.fetchval("SELECT pg_backend_pid()")
        await used.look_for_promoted()
        async with used.connection() as connection:
            assert await connection.fetchval("SELECT pg_backend_pid()") == before
        history.timeline = 8
        await used.look_for_promoted()
        for database in (used, other):
            with pytest.raises(FormerPrimary):
                async with database.connection():
                    pass
            async with database.connection() as connection:
                assert await connection.fetchval("SELECT pg_backend_pid()") != before
    finally:
        for database in (used, other):
            await database.close()


@pytest.mark.parametrize(
    ("place", "looks"),
    [
        ("@/db?host=/run/postgresql", 0),
        ("@%2Frun%2Fpostgresql/db", 0),
        ("@/db?host=db.example.com", 1),
        ("@db/x", 1),
        ("@/db?host=/one,/two", 2),
    ],
)
async def test_only_what_may_lead_elsewhere_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, place: str, looks: int
) -> None:
    """Each look is a connection, which costs an idle installation a tenth of its CPU."""
    seen: list[str] = []

    async def look_at(_self: dialing.Dialer, server: str) -> None:
        seen.append(server)

    monkeypatch.setattr(dialing.Dialer, "_look_at", look_at)
    await dialing.Dialer(f"postgresql://me{place}", where="here", settings={}, seconds=1).look()
    assert len(seen) == looks


async def test_a_session_that_listens_ends_once_another_primary_was_seen(
    database_url: str, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "_PROBE_SECONDS", 0.05)
    begun = asyncio.Event()
    listening = asyncio.create_task(listen.listen(database_url, [listen.TICK], lambda *_: begun.set()))
    await begun.wait()
    history.timeline = 8
    assert await answer(database_url, "SELECT 1") == 1
    async with asyncio.timeout(10):
        with pytest.raises(FormerPrimary):
            await listening


async def test_another_cluster_at_the_same_place_begins_its_timelines_anew(database_url: str, history: History) -> None:
    assert await answer(database_url, "SELECT 1") == 1
    history.timeline, history.cluster = 1, "other"
    assert await answer(database_url, "SELECT 1") == 1
    history.timeline = 2
    assert await answer(database_url, "SELECT 1") == 1


async def test_a_server_that_does_not_say_its_timeline_is_used(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where storage of its own kind takes the place of the log there is none."""
    async with two_primaries(database_url, monkeypatch, former=0) as (first, second):
        second.cut()
        assert await answer(url_of([first, second]), "SELECT 1") == 1


async def test_a_server_that_has_no_timelines_is_not_asked_again(database_url: str, history: History) -> None:
    history.timeline = 0
    database = Database(database_url, pool_size=1)
    await database.open()
    history.timeline = 7
    await database.rest()
    database.wake()
    async with database.connection() as connection:
        assert getattr(connection, "timeline", None) == 0
    await database.close()
    assert await answer(database_url, "SELECT 1") == 1


async def test_the_timeline_of_a_server_is_read(sql: asyncpg.Connection) -> None:
    assert await dialing._timeline(sql) == await sql.fetchval("SELECT timeline_id FROM pg_control_checkpoint()")


async def test_no_server_of_several_is_an_outage_that_names_them_all() -> None:
    with silent_server() as silent, pytest.raises(StoreUnavailable, match=f"127.0.0.1:1, 127.0.0.1:{silent}/x"):
        await answer(f"postgresql://me@127.0.0.1:1,127.0.0.1:{silent}/x", "SELECT 1")


@contextmanager
def pgbouncer(url: str, directory: Path, **settings: str) -> Iterator[str]:
    """A pooler in front of that server."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    parts = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    users = directory / "users"
    users.write_text('"postgres" ""\n')
    config = directory / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = host={parts.hostname} port={parts.port} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\nauth_file = {users}\n"
        f"unix_socket_dir =\nlogfile = {directory / 'log'}\n" + "".join(f"{k} = {v}\n" for k, v in settings.items())
    )
    directory.chmod(0o777)
    account = ["-u", "nobody"] if os.geteuid() == 0 else []
    for path in (directory, *directory.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp") and os.geteuid() == 0:
            path.chmod(path.stat().st_mode | 0o055)
    process = subprocess.Popen([program, *account, str(config)], stderr=subprocess.DEVNULL)
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}{parts.path}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("settings", [
    {"pool_mode": "transaction"}, {"pool_mode": "session"},
    {"pool_mode": "transaction", "ignore_startup_parameters": "statement_timeout, idle_in_transaction_session_timeout, lock_timeout, "
     "default_transaction_isolation, enable_seqscan, max_parallel_workers_per_gather, plan_cache_mode, jit, search_path, "
     "row_security, transform_null_equals, constraint_exclusion, datestyle, standard_conforming_strings"},
])  # fmt: skip
async def test_a_pooler_is_refused_at_the_start(database_url: str, tmp_path: Path, settings: dict[str, str]) -> None:
    async with fault_proxy(database_url) as proxy:  # by TCP: the pooler may not enter the directory of the socket
        await _refused(proxy.url, tmp_path, settings)


async def _refused(url: str, directory: Path, settings: dict[str, str]) -> None:
    with pgbouncer(url, directory, **settings) as pooled:

        async def is_up() -> bool:
            try:
                await (await asyncpg.connect(pooled, timeout=2)).close()
            except OSError:
                return False
            return True

        async with asyncio.timeout(20):
            while not await is_up():
                await asyncio.sleep(0.02)
        with pytest.raises(UnsafeServer, match="pooler") as refusal:
            await answer(pooled, "SELECT 1")
    assert "PostgreSQL itself" in refusal.value.hint
