"""The commands of the documents, run as they stand there: with a fake root, on a fresh cluster, against a daemon.

tests/unit/repository/test_commands.py knows which command is run here, and parses the others.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from eventstore import embedded
from eventstore.embedded.paths import prepare
from tests.support.postgres.server_processes import fast_directory
from tests.support.processes.cli import CommandLine
from tests.support.processes.documents import DEPLOY, ROOT, blocks, commands, section
from tests.support.processes.running import running
from tests.support.until import until

GUIDE, README = DEPLOY / "README.md", ROOT / "README.md"
SECONDS = 120.0
TEST_DATABASE_URL = "HOOKLEDGER_TEST_DATABASE_URL"
PASSWORD = "a password"

# What a fresh machine has, or root may do: each notes that it was called. `python3 -m venv` and `pip` make what they
# would make, without a download.
_NOTE = 'echo "$(basename "$0") $*" >> {calls}\n'
_PYTHON = _NOTE + 'mkdir -p "$3/bin" && cp {shims}/pip "$3/bin/pip"\n'
_PIP = _NOTE + 'test -f pyproject.toml && cp {shims}/hookledger "$(dirname "$0")/hookledger"\n'
_HOOKLEDGER = 'exec {python} -m daemon "$@"\n'
_INSTALL = 'arguments=$(printf "%s\\n" "$*" | sed "s/-g hookledger//") && exec /usr/bin/install $arguments\n'
SHIMS = {
    "python3": _PYTHON,
    "pip": _PIP,
    "hookledger": _HOOKLEDGER,
    "install": _INSTALL,
    "useradd": _NOTE,
    "systemctl": _NOTE,
}


@dataclass(frozen=True)
class Machine:
    """A folder that stands for the root of a machine, and its programs."""

    root: Path
    environment: dict[str, str]

    @property
    def calls(self) -> list[str]:
        return (self.root / "calls").read_text().splitlines()

    def type(self, script: str, *, answers: str = "", folder: Path = ROOT) -> str:
        """Runs a script as a reader does who types it, with answers to what it asks; returns what it prints."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            input=answers,
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            start_new_session=True,  # without a terminal a password is read from the input
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture
def machine(hookledger: CommandLine, tmp_path: Path) -> Machine:
    root = tmp_path / "root"
    shims = root / "shims"
    shims.mkdir(parents=True)
    for name, content in SHIMS.items():
        text = content.format(calls=root / "calls", shims=shims, python=shlex.quote(sys.executable))
        (shims / name).write_text(f"#!/bin/sh\n{text}")
        (shims / name).chmod(0o755)
    environment = {**hookledger.environment, "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}"}
    return Machine(root, environment)


@pytest.fixture
def fresh_cluster(machine: Machine) -> Iterator[Machine]:
    """That machine beside an empty PostgreSQL, of which the reader is the administrator."""
    if TEST_DATABASE_URL in os.environ:
        pytest.skip("only the embedded server surely fits its own pg_dump")
    # Not tmp_path: a second pytest run closes its parents to others, and root's server runs as another user.
    data_dir = Path(tempfile.mkdtemp(prefix="hookledger-fresh-", dir=fast_directory()))
    server = embedded.start(data_dir)
    try:
        (host,) = parse_qs(urlsplit(server.url).query)["host"]
        binaries = str(prepare(data_dir).binaries)
        yield Machine(
            machine.root,
            machine.environment
            | {"PATH": f"{machine.root / 'shims'}{os.pathsep}{binaries}{os.pathsep}{os.environ['PATH']}"}
            | {"PGHOST": host, "PGUSER": "postgres", "PGPASSWORD": PASSWORD}
            | {"HOOKLEDGER_DATABASE__URL": f"postgresql://hookledger@/hookledger?host={host}"},
        )
    finally:
        server.stop()
        shutil.rmtree(data_dir)


def test_a_fresh_machine_has_all_that_the_unit_needs_once_the_steps_are_done(machine: Machine) -> None:
    for folder in ("etc/systemd/system", "opt"):
        (machine.root / folder).mkdir(parents=True)
    steps, own_shell = section(GUIDE, "Install with systemd")[:2]
    for folder in ("/opt/", "/etc/"):
        steps = steps.replace(f" {folder}", f" {machine.root}{folder}")
        own_shell = own_shell.replace(f"={folder}", f"={machine.root}{folder}")
    machine.type(steps)

    assert [call.split()[0] for call in machine.calls] == ["python3", "pip", "useradd", "systemctl", "systemctl"]
    assert machine.calls[1] == "pip install .[embedded]"
    unit = (machine.root / "etc/systemd/system/hookledger.service").read_text()
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    assert machine.calls[2].endswith(f" {settings['User']}")
    assert machine.calls[3:] == ["systemctl daemon-reload", "systemctl enable --now hookledger"]
    program, command, option, file = (word.replace("/", f"{machine.root}/", 1) if word.startswith("/") else word
                                      for word in settings["ExecStart"].split())  # fmt: skip
    assert (command, option) == ("run", "--config")
    assert "in order" in machine.type(f"{program} config check --config {file}")
    assert settings["StateDirectory"] in own_shell
    assert "lag" in machine.type(own_shell)
    assert oct(Path(file).stat().st_mode & 0o777) == "0o640"
    assert oct(Path(file).parent.stat().st_mode & 0o777) == "0o750"


def test_role_and_database_of_a_postgresql_of_ones_own_are_enough(fresh_cluster: Machine) -> None:
    fresh_cluster.type(section(GUIDE, "Install with systemd")[2], answers=f"{PASSWORD}\n{PASSWORD}\n")
    assert "ran schema.sql" in fresh_cluster.type("hookledger migrate")
    assert fresh_cluster.type("hookledger rebuild")


async def test_a_backup_is_restored_by_the_steps_of_the_guide(
    hookledger: CommandLine, fresh_cluster: Machine, database_url: str, tmp_path: Path
) -> None:
    route = hookledger.create_route()
    hookledger("publish", stdin='{"tenant": "acme", "type": "order.create", "id": "evt_1", "data": {}}')
    async with running(hookledger) as daemon:
        await until(lambda: hookledger("audit", code=None).code == 0)
        assert await daemon.stop() == 0
    back_up, restore = section(GUIDE, "Back up and restore")
    fresh_cluster.type(f"DATABASE_URL={shlex.quote(database_url)}\n{back_up}", folder=tmp_path)
    printed = fresh_cluster.type(restore, answers=f"{PASSWORD}\n{PASSWORD}\n", folder=tmp_path)
    assert printed.index("would begin a new lineage") < printed.index("began a new lineage")
    assert route["id"] in fresh_cluster.type("hookledger routes list")


def test_the_commands_of_the_configuration_do_what_they_say(hookledger: CommandLine) -> None:
    hookledger.environment["HOOKLEDGER_CONFIG"] = str(DEPLOY / "hookledger.toml")
    shutil.copy(ROOT / "daemon" / "data" / "event_types.json", hookledger.home / "types.json")
    (block,) = section(GUIDE, "Configure")
    for words in commands(block):
        stand_ins = {"FILE": str(DEPLOY / "hookledger.toml")}
        if "ID" in words:
            (token,) = hookledger("token", "list", "--json").json
            stand_ins["ID"] = token["id"]
        hookledger(*(stand_ins.get(word, word) for word in words[1:]))
    (token,) = hookledger("token", "list", "--json").json
    assert token["revoked_at"] is not None


async def test_what_the_documents_ask_a_daemon_by_curl_it_answers(hookledger: CommandLine, machine: Machine) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (publish,) = [block for block in blocks(README) if "curl -X POST" in block]
    (link,) = section(GUIDE, "In your own pages")
    token = hookledger("token", "create", "--scope", "admin", "--json").json["token"]
    async with running(hookledger) as daemon:
        said = machine.type(publish.replace("localhost:8080", urlsplit(daemon.url).netloc))
        assert "order.*" in said
        published = json.loads(said[said.index("{") :])
        assert published["accepted"] == 1
        made = json.loads(machine.type(link.replace("https://hooks.example.com", daemon.url).replace("…", token)))
        assert "url" in made


async def test_what_a_producer_says_in_sql_is_an_event(hookledger: CommandLine, database_url: str) -> None:
    (statement,) = blocks(README, language="sql")
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("SET LOCAL ROLE hookledger_producer")
        await connection.execute(statement)
    assert await connection.fetchval("SELECT count(*) FROM hookledger.domain_event WHERE tenant = 'acme'") == 1
    await connection.close()
