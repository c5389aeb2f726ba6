"""A user's mistake gets one line `error: …`, the next step if it is known, and the exit code for such mistakes."""

import base64
import os
import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from tests.support.processes.cli import CommandLine, Ended


def only_error(ended: Ended) -> str:
    """The text of the single `error:` line; nothing else but a `try:` line may follow."""
    first, *rest = ended.err.splitlines()
    assert first.startswith("error: ")
    assert [line for line in rest if not line.startswith("try: ")] == []
    return first.removeprefix("error: ")


class _RefusingServer(socketserver.BaseRequestHandler):
    """Speaks just enough of PostgreSQL's protocol to refuse a password."""

    def handle(self) -> None:
        if self.request.recv(4096)[4:] == struct.pack("!i", 80877103):  # asks for TLS
            self.request.sendall(b"N")
            self.request.recv(4096)
        fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0"
        self.request.sendall(b"E" + struct.pack("!i", len(fields) + 4) + fields)


@pytest.fixture
def refusing_port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _RefusingServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_help_and_version_need_nothing(without_database: CommandLine) -> None:
    assert "publish" in without_database("--help").out
    assert without_database("--version").out.startswith("hookledger ")
    assert without_database(code=2).err.startswith("Usage: hookledger")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rotues"], "No such command"),
        (["routes", "show", "not-an-id"], "is no route id"),
        (["rebuild", "--as-of", "2026-11-23T08:00:00"], "has no offset"),
        (["rebuild", "--as-of", "2026-11-23", "--against", "http://127.0.0.1:1"], "leave --as-of and --tenant out"),
        (["publish", "/no/such/file"], "No such file"),
        (["publish", "--tenant", "two words"], "without spaces"),
        (["run", "--workers", "0"], "--workers"),
        (["run", "--workers", "257"], "--workers"),
        *(([command, "--listen", "8080"], "must be host:port") for command in ("run", "demo", "healthcheck")),
        (["login-link", "--listen", "localhost:65536"], "the highest is 65535"),
        (["run", "--listen", ""], "must be"),
        (["completion"], "Choose from: bash, zsh, fish"),
        (["audit", "--from", "2026-11-23", "--to", "2026-11-22"], "--to must be later"),
        (["routes", "create", "--tenant", "acme"], "missing --name, --target-url, --event-type"),
        (["routes", "edit", "5b1f6d0e-7a5b-4a37-9d5c-0d3f2f2f7d11"], "nothing to change"),
    ],
)
def test_wrong_usage_is_exit_code_2(without_database: CommandLine, arguments: list[str], message: str) -> None:
    assert message in only_error(without_database(*arguments, code=2))


def test_a_terminal_of_another_encoding_shows_what_it_can(without_database: CommandLine) -> None:
    without_database.environment["PYTHONIOENCODING"] = "latin-1"
    with without_database.start("config", "show") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("server.public_url")]
    assert line.split() == ["server.public_url", "?"]


@pytest.mark.parametrize("arguments", [("config", "show"), ("--help",), ("run", "--help"), ("completion", "bash")])
def test_a_reader_that_goes_away_is_no_failure(without_database: CommandLine, arguments: tuple[str, ...]) -> None:
    """As `| head` in a script that looks at each command of a pipe."""
    with without_database.start(*arguments) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_an_unknown_event_type_pattern_names_what_would_be_right(hookledger: CommandLine) -> None:
    given = ("--tenant", "acme", "--name", "x", "--target-url", "https://a.example/", "-e", "Order.Create")
    assert "use a type like order.create" in only_error(hookledger("routes", "create", *given, code=2))


def test_all_that_is_wrong_with_a_route_is_said_at_once(hookledger: CommandLine) -> None:
    given = ("--tenant", "acme", "--name", " ", "--target-url", "https://127.0.0.1/", "-e", "*", "--filter", "][")
    ended = hookledger("routes", "create", *given, code=2)
    fields = [line.removeprefix("error: ").split(":")[0] for line in ended.err.splitlines()]
    assert fields == ["--name", "--target-url", "--filter"]


def test_an_unknown_configuration_key_is_78_with_what_was_meant(without_database: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "h.toml").write_text("[server]\nlisten_on = '127.0.0.1:1'\n[delivery]\ntimeout_secnods = 3\n")
    lines = without_database("config", "check", "--config", "h.toml", code=78).err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)
    assert "did you mean timeout_seconds?" in lines[1]


def test_a_missing_configuration_file_is_78(without_database: CommandLine) -> None:
    assert "nowhere.toml" in only_error(without_database("run", "--config", "nowhere.toml", code=78))


def test_listening_beyond_loopback_without_a_token_is_78(without_database: CommandLine) -> None:
    assert "admin token" in only_error(without_database("run", "--listen", "0.0.0.0:0", code=78))


def test_a_short_admin_token_beyond_loopback_is_78_for_run_and_for_config_check(tmp_path: Path) -> None:
    settings = {"HOOKLEDGER_SERVER__LISTEN": "0.0.0.0:0", "HOOKLEDGER_SERVER__ADMIN_TOKEN": "canary"}
    hookledger = CommandLine(tmp_path, **settings)
    for command in (("run",), ("config", "check")):
        refused = hookledger(*command, code=78)
        assert "at least 32 characters" in only_error(refused)
        assert "canary" not in refused.err


def test_no_database_there_is_69(tmp_path: Path) -> None:
    ended = CommandLine(tmp_path, "postgresql://me:hunter2@127.0.0.1:1/app")("routes", "list", code=69)
    assert "127.0.0.1:1/app is not reachable" in only_error(ended)
    assert "try: " in ended.err
    assert "hunter2" not in ended.err


def test_a_database_url_that_is_none_is_78_and_not_repeated(tmp_path: Path) -> None:
    ended = CommandLine(tmp_path, "postgresql://me:hunter2@127.0.0.1/x?sslmode=perhaps")("routes", "list", code=78)
    assert "HOOKLEDGER_DATABASE__URL: has no such sslmode; write one of disable, " in only_error(ended)
    assert "hunter2" not in ended.err


def test_a_host_without_an_address_is_69(tmp_path: Path) -> None:
    ended = CommandLine(tmp_path, "postgresql://no.such.host.invalid/x")("routes", "list", code=69)
    assert "no.such.host.invalid/x is not reachable" in only_error(ended)


def test_a_wrong_password_is_69_and_not_repeated(tmp_path: Path, refusing_port: int) -> None:
    ended = CommandLine(tmp_path, f"postgresql://me:hunter2@127.0.0.1:{refusing_port}/app")("routes", "list", code=69)
    assert "refuses this user or password" in only_error(ended)
    assert "hunter2" not in ended.err


WRITING = (
    ("run", "--listen", "127.0.0.1:0"),
    ("run", "--workers", "2", "--listen", "127.0.0.1:0"),
    ("routes", "create", "--tenant", "a", "--name", "x", "--url", "https://shop.example.com", "--event-type", "a.b"),
    ("token", "create", "--scope", "admin"),
    ("login-link",),
    ("event-types", "load", "--sample"),
    ("keys", "rewrap"),
)


async def test_a_primary_that_is_set_read_only_is_69_and_says_so_to_each_command_that_writes(
    tmp_path: Path, database_url: str, empty_database_url: str
) -> None:
    commands = {database_url: WRITING, empty_database_url: (("migrate",), WRITING[0])}
    for url in commands:
        administrator = await asyncpg.connect(url)
        name = await administrator.fetchval("SELECT quote_ident(current_database())")
        await administrator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await administrator.close()
    for url, each in commands.items():
        for command in each:
            ended = CommandLine(tmp_path, url)(*command, code=69)
            assert "is read-only: default_transaction_read_only is on" in only_error(ended), command
            assert "try: set default_transaction_read_only = off where it is on" in ended.err, command


def test_a_database_without_schema_asks_for_migrate(tmp_path: Path, empty_database_url: str) -> None:
    hookledger = CommandLine(tmp_path, empty_database_url)
    ended = hookledger("routes", "list", code=1)
    assert "no Hookledger schema" in only_error(ended)
    assert "try: run hookledger migrate" in ended.err
    assert hookledger("migrate", "--plan", "--json").json["done"] is False
    hookledger("migrate")
    assert "nothing to do" in hookledger("migrate").out
    hookledger("routes", "list")


def test_a_command_without_the_configuration_of_the_daemon_makes_no_database(without_database: CommandLine) -> None:
    for command in (("token", "create", "--scope", "admin"), ("status", "--once"), ("routes", "list"), ("rebuild",)):
        ended = without_database(*command, code=78)
        assert "there is no database in " in only_error(ended)
        hint = ended.err.splitlines()[-1]
        assert "HOOKLEDGER_DATABASE__DATA_DIR" in hint
        assert hint.endswith("hookledger run")
    assert not (without_database.home / "share").exists()


async def test_a_newer_schema_is_refused(hookledger: CommandLine, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE hookledger.meta SET value = '99' WHERE key = 'schema_version'")
    await connection.close()
    for command in (["routes", "list"], ["migrate"], ["migrate", "--plan"], ["run", "--listen", "127.0.0.1:0"]):
        assert "schema version 99" in only_error(hookledger(*command, code=1))


def test_a_data_directory_of_somebody_else_is_78(without_database: CommandLine, tmp_path: Path) -> None:
    theirs = Path("/usr/lib")
    if os.geteuid() == 0:  # root may write anywhere; what it must not do is run a server on another user's cluster
        theirs = tmp_path / "theirs"
        (theirs / "postgres").mkdir(parents=True)
        (theirs / "postgres" / "PG_VERSION").write_text("18\n")
        shutil.chown(theirs / "postgres", "nobody")
    without_database.environment["HOOKLEDGER_DATABASE__DATA_DIR"] = str(theirs)
    ended = without_database("routes", "list", code=78)
    assert str(theirs) in only_error(ended)
    assert "try: " in ended.err


def test_a_master_key_of_another_database_is_78(hookledger: CommandLine, tmp_path: Path, database_url: str) -> None:
    hookledger.create_route()
    elsewhere = CommandLine(tmp_path / "elsewhere", database_url)
    elsewhere.home.mkdir()
    given = ("--tenant", "acme", "--name", "x", "--target-url", "https://a.example/", "-e", "*")
    elsewhere.environment["HOOKLEDGER_SIGNING__MASTER_KEY"] = base64.b64encode(b"o" * 32).decode()
    for command in (("routes", "create", *given), ("token", "create", "--scope", "admin"), ("login-link",)):
        ended = elsewhere(*command, code=78)
        assert only_error(ended) == "a stored secret cannot be opened with the configured master key"
        assert "last" in ended.err.splitlines()[-1], "the first key may have been exchanged since"
    assert hookledger("token", "list", "--json").json == []
    assert hookledger("token", "create", "--scope", "admin", "--json").json["scope"] == "admin"


def test_no_master_key_is_made_for_a_database_that_has_one(
    hookledger: CommandLine, tmp_path: Path, database_url: str
) -> None:
    """It would be a wrong one: what needs none, like an audit, would then fail on that machine."""
    route = hookledger.create_route()
    elsewhere = CommandLine(tmp_path / "elsewhere", database_url)
    elsewhere.home.mkdir()
    commands = (
        ("run", "--listen", "127.0.0.1:0"),
        ("run", "--listen", "127.0.0.1:0", "--workers", "2"),
        ("routes", "disable", route["id"]),
        ("keys", "rewrap"),
        ("token", "create", "--scope", "admin"),
        ("login-link", "--tenant", "acme"),
    )
    for command in commands:
        message = only_error(elsewhere(*command, code=78))
        assert message.startswith("this database has secrets under a master key, and there is none in ")
        assert message.endswith("/master.key")
    assert [path for path in elsewhere.home.rglob("*") if path.is_file()] == []
    hookledger("routes", "enable", route["id"])


def test_a_port_that_is_taken_is_exit_code_1(hookledger: CommandLine) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        hookledger.environment["HOOKLEDGER_LOG__LEVEL"] = "error"
        ended = hookledger("run", "--listen", address, code=1)
        assert address in only_error(ended)
        assert "try: " in ended.err


def test_unknown_routes_and_events_are_exit_code_1(hookledger: CommandLine) -> None:
    nobody = "5b1f6d0e-7a5b-4a37-9d5c-0d3f2f2f7d11"
    for command in ("show", "history", "disable", "enable", "rotate-key", "revoke-old-key", "test"):
        assert only_error(hookledger("routes", command, nobody, code=1)) == f"there is no route {nobody}"
    assert "no event 'evt_1'" in only_error(hookledger("explain", "evt_1", code=1))


def test_a_daemon_that_is_not_there_fails_the_healthcheck(without_database: CommandLine) -> None:
    without_database.environment["HOOKLEDGER_SERVER__LISTEN"] = "127.0.0.1:1"
    assert "does not answer" in only_error(without_database("healthcheck", code=1))


def test_the_line_end_of_a_file_of_variables_is_no_part_of_a_token(without_database: CommandLine) -> None:
    without_database.environment["HOOKLEDGER_TOKEN"] = "hl_producer_5f2c9a0e41b7_secret\r"
    for command in (
        ("rebuild", "--against", "http://127.0.0.1:1"),
        ("listen", "--tenant", "acme", "--forward-to", "localhost", "--url", "http://127.0.0.1:1"),
    ):
        assert "secret" not in without_database(*command, code=None).err
    without_database.environment["HOOKLEDGER_TOKEN"] = "hl_producer_secret\nsecret"
    refused = without_database("rebuild", "--against", "http://127.0.0.1:1", code=2)
    assert only_error(refused) == "Invalid value for '--token': it has characters that no token has: copy it again"


def test_without_an_output_there_is_nothing_to_say(without_database: CommandLine) -> None:
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m daemon config show >&-"],
        env=without_database.environment,
        cwd=without_database.home,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_that_leaves_early_is_no_error(without_database: CommandLine) -> None:
    piped = f"'{sys.executable}' -m daemon config show --json | true"
    done = subprocess.run(
        ["sh", "-c", piped],
        env=without_database.environment,
        cwd=without_database.home,
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
