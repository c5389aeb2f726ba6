"""The configuration: what is accepted, what is refused, and how well the refusal helps."""

import base64
import os
import pwd
import re
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import click
import pytest

from daemon import config
from daemon.cli.main import cli
from daemon.config import Config, ConfigError, ListenAddress, LogFormat, LogLevel, Secret, sections
from tests.support.values.certificates import issue, pem

HOME = {"HOME": "/home/ada"}
EXAMPLE = Path(__file__).parents[3] / "deploy" / "hookledger.toml"
KEY = base64.b64encode(bytes(32)).decode()
OTHER_KEY = base64.b64encode(bytes(range(32))).decode()

# A literal copy of the keys and defaults: a key that is renamed or loses its default must fail here.
DEFAULTS: dict[str, dict[str, object]] = {
    "server": {
        "listen": "127.0.0.1:8080",
        "public_url": None,
        "ops_listen": None,
        "admin_token": None,
        "max_connections": 1000,
        "trusted_proxies": [],
    },
    "database": {
        "url": None,
        "data_dir": "/home/ada/.local/share/hookledger",
        "pool_size": 8,
        "command_connections": 4,
        "query_connections": 4,
    },
    "egress": {
        "allow_http": False,
        "ports": [443, 8443],
        "allow_nets": [],
        "deny_nets": [],
        "allow_hosts": [],
        "proxy": None,
        "extra_ca_file": None,
    },
    "delivery": {
        "timeout_seconds": 15,
        "concurrency": 256,
        "route_concurrency": 16,
        "retry_first_seconds": 60,
        "retry_factor": 2,
        "retry_cap_seconds": 600,
        "retry_attempts": 60,
        "retry_jitter": 0.1,
        "breaker_failures": 20,
        "auto_disable_after": None,
    },
    "signing": {"header": "OrderGroove-Signature", "standard_webhooks": True, "master_key": None},
    "events": {"max_bytes": 262144, "batch_max": 10000, "strict_types": False},
    "retention": {"events_days": 30, "attempts_days": 30},
    "limits": {"routes_per_tenant": 1000, "commands_per_minute": 120},
    "operations": {"tenant": None, "tell_tenants": False},
    "seal": {"every_seconds": 60, "anchor_file": None, "former_keys": []},
    "dashboard": {
        "name": "Hookledger",
        "logo_file": None,
        "accent": None,
        "return_url": None,
        "frame_ancestors": [],
    },
    "log": {"level": "info", "format": None, "successes_per_second": 50},
    "tracing": {"endpoint": None, "sample_ratio": 1.0, "max_per_second": 50, "propagate": False},
}

# A literal copy of the decision for each key: whether a reload may change it in a running daemon.
NEEDS_RESTART = {"server.listen", "server.ops_listen", "database.url", "database.data_dir", "signing.master_key"}
TAKEN_BY_A_RELOAD = {
    *("server.public_url", "server.admin_token", "server.max_connections", "server.trusted_proxies"),
    *("database.pool_size", "database.command_connections", "database.query_connections"),
    *("egress.allow_http", "egress.ports", "egress.allow_nets", "egress.deny_nets", "egress.allow_hosts"),
    *("egress.proxy", "egress.extra_ca_file"),
    *("delivery.timeout_seconds", "delivery.concurrency", "delivery.route_concurrency", "delivery.breaker_failures"),
    *("delivery.retry_first_seconds", "delivery.retry_factor", "delivery.retry_cap_seconds"),
    *("delivery.retry_attempts", "delivery.retry_jitter", "delivery.auto_disable_after"),
    *("signing.header", "signing.standard_webhooks"),
    *("events.max_bytes", "events.batch_max", "events.strict_types"),
    *("retention.events_days", "retention.attempts_days"),
    *("limits.routes_per_tenant", "limits.commands_per_minute"),
    *("operations.tenant", "operations.tell_tenants"),
    *("seal.every_seconds", "seal.anchor_file", "seal.former_keys"),
    *("dashboard.name", "dashboard.logo_file", "dashboard.accent", "dashboard.return_url", "dashboard.frame_ancestors"),
    *("log.level", "log.format", "log.successes_per_second"),
    *("tracing.endpoint", "tracing.sample_ratio", "tracing.max_per_second", "tracing.propagate"),
}


def load(toml: str = "", /, *, tmp_path: Path | None = None, **environ: str) -> Config:
    path = None
    if tmp_path is not None:
        path = tmp_path / "hookledger.toml"
        path.write_text(toml)
    return config.load(path, HOME | {f"HOOKLEDGER_{name}": text for name, text in environ.items()})


def problems(toml: str = "", /, *, tmp_path: Path | None = None, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(toml, tmp_path=tmp_path, **environ)
    return caught.value.problems


def test_without_any_source_every_key_has_its_default() -> None:
    assert config.masked(config.load(None, HOME)) == DEFAULTS


def test_the_example_loads_and_names_every_key_with_its_default() -> None:
    assert config.masked(config.load(EXAMPLE, HOME)) == DEFAULTS
    uncommented = re.sub(r"(?m)^# (?=[a-z_]+ = )", "", EXAMPLE.read_text())
    documented = tomllib.loads(uncommented)
    assert {section: set(keys) for section, keys in documented.items()} == {
        section: set(keys) for section, keys in DEFAULTS.items()
    }
    for section, keys in DEFAULTS.items():
        for key, default in keys.items():
            if default is not None and key != "data_dir":
                assert documented[section][key] == default, f"{section}.{key}"


def test_for_each_key_is_decided_whether_a_reload_may_change_it() -> None:
    keys = {f"{section}.{key}" for section, keys in DEFAULTS.items() for key in keys}
    assert not NEEDS_RESTART & TAKEN_BY_A_RELOAD
    assert keys == NEEDS_RESTART | TAKEN_BY_A_RELOAD, "decide it here, and mark it in the model if it needs a restart"
    assert {f"{section}.{key}" for section, key in sections.NEEDS_RESTART} == NEEDS_RESTART


def test_the_example_says_which_keys_need_a_restart() -> None:
    section, marked = "", set()
    for line in EXAMPLE.read_text().splitlines():
        if found := re.match(r"\[(\w+)\]", line):
            section = found[1]
        elif (found := re.match(r"# (\w+) = .*# restart: ", line)) is not None:
            marked.add(f"{section}.{found[1]}")
    assert marked == NEEDS_RESTART


def test_a_change_that_needs_a_restart_is_refused_with_every_such_key(tmp_path: Path) -> None:
    old = load("[log]\nlevel = 'info'", tmp_path=tmp_path)
    taken = load("[log]\nlevel = 'debug'\n[limits]\nroutes_per_tenant = 7", tmp_path=tmp_path, SERVER__ADMIN_TOKEN="x")
    assert config.changed_keys(old, old) == ()
    assert config.changed_keys(old, taken) == (
        ("server", "admin_token"),
        ("limits", "routes_per_tenant"),
        ("log", "level"),
    )
    config.check_change(old, taken)
    refused = load(
        "[log]\nlevel = 'debug'",
        tmp_path=tmp_path,
        SERVER__LISTEN="127.0.0.1:1",
        DATABASE__URL="postgresql://postgres:hunter2@db/x",
    )
    with pytest.raises(ConfigError) as caught:
        config.check_change(old, refused)
    assert caught.value.problems == (
        (
            "server.listen: addresses are bound when the daemon starts, so a reload cannot change it; "
            "restart the daemon, or set it back"
        ),
        (
            "database.url: a running daemon stays with its database, so a reload cannot change it; "
            "restart the daemon, or set it back"
        ),
    )


def test_the_examples_other_values_are_valid_too(tmp_path: Path) -> None:
    uncommented = re.sub(r"(?m)^# (?=[a-z_]+ = )", "", EXAMPLE.read_text())
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(pem(issue("private-ca")))
    logo = tmp_path / "logo.svg"
    logo.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    filled = uncommented.replace("/etc/ssl/private-ca.pem", str(ca_file)).replace('""', f'"{KEY}"')
    filled = filled.replace("/etc/hookledger/logo.svg", str(logo))
    loaded = load(filled, tmp_path=tmp_path)
    assert loaded.delivery.auto_disable_after == timedelta(days=5)
    assert loaded.database.data_dir == Path("/home/ada/.local/share/hookledger")


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = tmp_path / "hookledger.toml"
    path.write_text('[server]\nlisten = "127.0.0.1:1"\n[log]\nlevel = "error"\n[delivery]\nconcurrency = 32\n')
    environ = HOME | {"HOOKLEDGER_SERVER__LISTEN": "127.0.0.1:2", "HOOKLEDGER_LOG__LEVEL": "debug"}
    loaded = config.load(path, environ, listen="127.0.0.1:3")
    assert loaded.server.listen == ListenAddress(host="127.0.0.1", port=3)
    assert loaded.log.level is LogLevel.DEBUG
    assert loaded.delivery.concurrency == 32


def test_environment_variables_can_say_everything_a_file_can() -> None:
    loaded = load(
        EGRESS__PORTS="443, 9443",
        EGRESS__ALLOW_NETS="10.0.0.0/8,fd00::/8",
        EGRESS__ALLOW_HTTP="true",
        DELIVERY__AUTO_DISABLE_AFTER="1h30m",
        SIGNING__MASTER_KEY=f"{KEY},{OTHER_KEY}",
        LOG__FORMAT="console",
    )
    assert loaded.egress.ports == (443, 9443)
    assert loaded.egress.allow_nets == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert loaded.egress.allow_http is True
    assert loaded.delivery.auto_disable_after == timedelta(hours=1, minutes=30)
    assert loaded.signing.master_keys == (bytes(32), bytes(range(32)))
    assert loaded.log.format is LogFormat.CONSOLE


def test_an_empty_variable_counts_as_absent() -> None:
    assert load(SERVER__ADMIN_TOKEN="", DATABASE__URL="", LOG__LEVEL="").server.admin_token is None


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    loaded = load(SERVER__ADMIN_TOKEN_FILE=str(token))
    assert loaded.server.admin_token == Secret("s3cret")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    token, toml = tmp_path / "token", tmp_path / "marked.toml"
    token.write_text("s3cret\n", encoding="utf-8-sig")
    toml.write_text("[log]\nlevel = 'debug'\n", encoding="utf-8-sig")
    loaded = config.load(toml, HOME | {"HOOKLEDGER_SERVER__ADMIN_TOKEN_FILE": str(token)})
    assert (loaded.server.admin_token, loaded.log.level) == (Secret("s3cret"), LogLevel.DEBUG)


def test_a_trusted_proxy_needs_an_admin_token() -> None:
    (problem,) = problems(SERVER__TRUSTED_PROXIES="10.0.0.0/8")
    assert problem.startswith("HOOKLEDGER_SERVER__TRUSTED_PROXIES: a proxy makes the daemon reachable by others")
    loaded = load(SERVER__TRUSTED_PROXIES="10.0.0.0/8, ::1/128", SERVER__ADMIN_TOKEN="x" * 32)
    assert list(map(str, loaded.server.trusted_proxies)) == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize("key", ["server.listen", "database.data_dir", "seal.anchor_file", "dashboard.logo_file"])
def test_a_text_that_no_system_call_takes_is_refused(key: str, tmp_path: Path) -> None:
    section, name = key.split(".")
    (found,) = problems(f'[{section}]\n{name} = "/a\\u0000b:1"', tmp_path=tmp_path)
    assert found.endswith(f"{key}: must not contain control characters: remove U+0000")


@pytest.mark.parametrize("token", ["s3cret\nbehind", "s3\x00cret", "s3\udcffcret"])
def test_a_token_that_no_request_could_carry_is_refused_and_not_quoted(token: str) -> None:
    (found,) = problems(SERVER__ADMIN_TOKEN=token)
    assert "must not contain control characters: remove U+" in found
    assert "cret" not in found


@pytest.mark.parametrize("url", ["http://ada:s3cret@otel:4318", "http://s3cret@otel", "https://otel/?api-key=s3cret"])
def test_a_collectors_url_has_no_secret_that_every_log_would_show(url: str) -> None:
    (found,) = problems(TRACING__ENDPOINT=url)
    assert found == (
        "HOOKLEDGER_TRACING__ENDPOINT: must have no user, password or query, which would be shown; set "
        "OTEL_EXPORTER_OTLP_HEADERS instead"
    )


def test_a_file_that_is_nested_too_deeply_is_no_toml(tmp_path: Path) -> None:
    (found,) = problems(f"a = {'[' * 100_000}", tmp_path=tmp_path)
    assert found.endswith("not TOML: it is nested too deeply; correct the file")


def anchor_problems(file: Path) -> tuple[str, ...]:
    environ = HOME | {"HOOKLEDGER_SEAL__ANCHOR_FILE": str(file)}
    config.load(None, environ)  # a command that only reads need not be able to write it
    with pytest.raises(ConfigError) as caught:
        config.load(None, environ, for_daemon=True)
    return caught.value.problems


def test_the_file_of_signed_heads_must_be_one_that_the_daemon_can_write(tmp_path: Path) -> None:
    where = "HOOKLEDGER_SEAL__ANCHOR_FILE"
    absent, a_file = tmp_path / "absent", tmp_path / "a-file"
    a_file.touch()
    assert anchor_problems(absent / "anchors") == (f"{where}: no folder {absent}; make it, or name a file elsewhere",)
    assert anchor_problems(a_file / "anchors") == (f"{where}: no folder {a_file}; make it, or name a file elsewhere",)
    assert anchor_problems(tmp_path) == (f"{where}: {tmp_path} is a folder; name a file in it",)
    for writable in (a_file, tmp_path / "anchors"):
        config.load(None, HOME | {where: str(writable)}, for_daemon=True)


def test_the_file_of_signed_heads_must_be_one_that_this_user_may_write() -> None:
    where = "HOOKLEDGER_SEAL__ANCHOR_FILE"
    with tempfile.TemporaryDirectory() as made:
        folder, a_file = Path(made), Path(made, "a-file")
        a_file.touch(mode=0o444)
        folder.chmod(0o555)
        with another_user():
            assert anchor_problems(folder / "anchors") == (
                f"{where}: this user may not write to {folder}; give it to the user of the daemon",
            )
            assert anchor_problems(a_file) == (
                f"{where}: this user may not read and write {a_file}; give it to the user of the daemon",
            )
        folder.chmod(0o755)


@contextmanager
def another_user() -> Iterator[None]:
    """Root may write everywhere, and is nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("key", ["LIMITS__COMMANDS_PER_MINUTE", "DELIVERY__CONCURRENCY", "TRACING__MAX_PER_SECOND"])
def test_a_number_beyond_all_reason_is_refused(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, HOME | {f"HOOKLEDGER_{key}": f"1{'0' * 320}"})
    (found,) = caught.value.problems
    assert "must be less than or equal to" in found


@pytest.mark.parametrize("key", ["EGRESS__PROXY", "TRACING__ENDPOINT", "SERVER__PUBLIC_URL"])
@pytest.mark.parametrize("url", ["http://", "http://:80", "https:///path"])
def test_a_url_without_a_host_is_refused(key: str, url: str) -> None:
    with pytest.raises(ConfigError):
        config.load(None, HOME | {f"HOOKLEDGER_{key}": url})


@pytest.mark.parametrize("url", ["https://h//evil.example", "https://h/a b", "https://h/\\evil", 'https://h/"><b>'])
def test_a_public_url_leads_nowhere_else(url: str) -> None:
    """Every redirect begins with its path, and //evil.example is another host."""
    (found,) = problems(SERVER__PUBLIC_URL=url)
    assert found.endswith("must be the address of the dashboard only, such as https://hooks.example.com")


@pytest.mark.parametrize("text", [b"", b"no certificate", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_of_authorities_that_has_no_certificate_is_refused(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(text)
    (found,) = problems(EGRESS__EXTRA_CA_FILE=str(file))
    assert found == f"HOOKLEDGER_EGRESS__EXTRA_CA_FILE: no certificate in {file}; name a PEM file"


def test_a_secret_given_twice_or_in_a_missing_file_is_refused() -> None:
    [twice] = problems(SERVER__ADMIN_TOKEN="a", SERVER__ADMIN_TOKEN_FILE="/dev/null")
    assert twice == "HOOKLEDGER_SERVER__ADMIN_TOKEN_FILE: HOOKLEDGER_SERVER__ADMIN_TOKEN is set too; remove one of them"
    [empty] = problems(DATABASE__URL_FILE="/dev/null")
    assert empty.startswith("HOOKLEDGER_DATABASE__URL_FILE: /dev/null is empty; write the secret into it")
    [missing] = problems(DATABASE__URL_FILE="/nonexistent")
    assert missing.startswith("HOOKLEDGER_DATABASE__URL_FILE: /nonexistent: No such file")


def test_all_problems_are_reported_at_once_with_where_and_what_next(tmp_path: Path) -> None:
    found = problems(
        '[serve]\nlisten = "x"\n[delivery]\nconcurency = 1\nretry_jitter = 2\n[log]\nlevel = "warn"\n',
        tmp_path=tmp_path,
        DATABASE_URL="postgresql://x",
        EGRESS__ALLOW_NETS="10.0.0.1/8",
        EVENTS__MAX_BYTES="lots",
    )
    path = tmp_path / "hookledger.toml"
    assert found == (
        f"{path}: unknown section [serve]; did you mean server?",
        f"{path}: unknown key delivery.concurency; did you mean concurrency?",
        "HOOKLEDGER_DATABASE_URL: unknown variable; did you mean HOOKLEDGER_DATABASE__URL?",
        "HOOKLEDGER_EGRESS__ALLOW_NETS: '10.0.0.1/8' has bits set beyond its prefix; did you mean 10.0.0.0/8?",
        f"{path}: delivery.retry_jitter: 2 must be less than 1; the default is 0.1",
        "HOOKLEDGER_EVENTS__MAX_BYTES: 'lots' must be a whole number; the default is 262144",
        f"{path}: log.level: 'warn' is not one of debug, info, warning, error; did you mean warning?",
    )


def test_what_is_only_in_other_case_is_recognised(tmp_path: Path) -> None:
    found = problems('[SERVER]\n[delivery]\nTIMEOUT_SECONDS = 1\n[log]\nlevel = "INFO"\n', tmp_path=tmp_path)
    assert [message.partition("; did you mean ")[2] for message in found] == ["server?", "timeout_seconds?", "info?"]


def test_a_file_that_is_missing_or_no_toml_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory; check the path given with --config"):
        config.load(tmp_path / "absent.toml", HOME)
    [found] = problems("listen = \n", tmp_path=tmp_path)
    assert "not TOML" in found
    [found] = problems('log = "info"\n', tmp_path=tmp_path)
    assert found.endswith("log is a section; write [log] and its keys below")


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "hooks.example.com:80"])
def test_listening_beyond_loopback_needs_an_admin_token(listen: str) -> None:
    [found] = problems(SERVER__LISTEN=listen)
    assert "there is no admin token; set HOOKLEDGER_SERVER__ADMIN_TOKEN" in found
    assert str(load(SERVER__LISTEN=listen, SERVER__ADMIN_TOKEN="t" * 32).server.listen) == listen
    [found] = problems(SERVER__OPS_LISTEN=listen)
    assert found.startswith("HOOKLEDGER_SERVER__OPS_LISTEN")


@pytest.mark.parametrize("key", ["LISTEN", "OPS_LISTEN"])
def test_beyond_loopback_an_admin_token_that_can_be_guessed_is_refused_and_not_quoted(key: str) -> None:
    for token in ("t", "canary" * 5, "t" * 31):
        environ = {f"HOOKLEDGER_SERVER__{key}": "0.0.0.0:8080", "HOOKLEDGER_SERVER__ADMIN_TOKEN": token}
        with pytest.raises(ConfigError) as caught:
            config.load(None, HOME | environ)
        [found] = caught.value.problems
        assert found.startswith(
            "HOOKLEDGER_SERVER__ADMIN_TOKEN: it must have at least 32 characters, since 0.0.0.0:8080"
        )
        assert "openssl rand -hex 32" in found
        assert "canary" not in found
    [once] = problems(SERVER__ADMIN_TOKEN="t", SERVER__LISTEN="0.0.0.0:1", SERVER__OPS_LISTEN="0.0.0.0:2")
    assert "0.0.0.0:1" in once
    load(SERVER__ADMIN_TOKEN="t")


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "127.9.9.9:0", "[::1]:8080", "localhost:80"])
def test_loopback_needs_none(listen: str) -> None:
    assert load(SERVER__LISTEN=listen).server.listen.is_loopback


@pytest.mark.parametrize(
    "listen", ["8080", ":8080", "::1:8080", "[::1]", "127.0.0.1:", "127.0.0.1:65536", "a:-1", "a:²"]
)
def test_a_listen_address_is_host_and_port(listen: str) -> None:
    assert len(problems(SERVER__LISTEN=listen)) == 1


def test_a_port_that_there_is_none_is_named(tmp_path: Path) -> None:
    for port in ("65536", "99999"):
        with pytest.raises(ConfigError) as caught:
            config.load(None, HOME, listen=f"127.0.0.1:{port}")
        assert caught.value.problems == (f"--listen: there is no port {port}; the highest is 65535",)
    (long,) = problems(SERVER__LISTEN=f"127.0.0.1:{'9' * 5000}")
    assert long == "HOOKLEDGER_SERVER__LISTEN: there is no port 999999; the highest is 65535"
    for written in ("8080", "true", '["127.0.0.1:8080"]'):
        (number,) = problems(f"[server]\nlisten = {written}", tmp_path=tmp_path)
        assert number.endswith("server.listen: must be host:port, such as 127.0.0.1:8080")


def test_a_wrong_choice_is_answered_with_the_choices_alone() -> None:
    (found,) = problems(LOG__LEVEL="7")
    assert found == "HOOKLEDGER_LOG__LEVEL: '7' is not one of debug, info, warning, error"


@pytest.mark.parametrize("key", ["EGRESS__PORTS", "EGRESS__ALLOW_NETS", "SIGNING__MASTER_KEY", "SEAL__FORMER_KEYS"])
@pytest.mark.parametrize("text", ["[443, 444]", " ['a']", "[]"])
def test_a_list_in_a_variable_has_no_brackets(key: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, HOME | {f"HOOKLEDGER_{key}": text})
    assert caught.value.problems == (
        f"HOOKLEDGER_{key}: must have its items separated by commas, without brackets and quotes, like this: a,b",
    )


def test_no_port_at_all_is_refused_since_nothing_could_be_sent(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[egress]\nports = []\n")
    with pytest.raises(ConfigError) as caught:
        config.load(file, HOME)
    assert caught.value.problems == (f"{file}: egress.ports: must not be an empty list; leave the key out instead",)


def test_one_address_for_all_is_said_by_leaving_the_other_out() -> None:
    """Else the second of them would be taken, by ourselves."""
    assert problems(SERVER__LISTEN="127.0.0.1:9090", SERVER__OPS_LISTEN="127.0.0.1:9090") == (
        "HOOKLEDGER_SERVER__OPS_LISTEN: 127.0.0.1:9090 is server.listen, too; leave it out to have all on one address",
    )
    assert load(SERVER__LISTEN="127.0.0.1:0", SERVER__OPS_LISTEN="127.0.0.1:0").server.ops_listen is not None


def test_dev_is_refused_beyond_loopback_even_with_a_token() -> None:
    environ = HOME | {"HOOKLEDGER_SERVER__ADMIN_TOKEN": "t"}
    with pytest.raises(ConfigError, match=r"--listen: --dev is for loopback only, not 0.0.0.0:8080"):
        config.load(None, environ, dev=True, listen="0.0.0.0:8080")


def test_dev_opens_loopback_http_and_every_port_and_nothing_else() -> None:
    assert load().egress_policy.ports == frozenset({443, 8443})
    assert not load().egress_policy.allow_http
    policy = config.load(None, HOME | {"HOOKLEDGER_EGRESS__DENY_NETS": "203.0.113.0/24"}, dev=True).egress_policy
    assert policy.allow_http
    assert policy.ports is None
    assert policy.allow_nets == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert policy.deny_nets == (ip_network("203.0.113.0/24"),)


def test_the_retry_schedule_is_one_the_core_accepts() -> None:
    assert load(DELIVERY__RETRY_FIRST_SECONDS="0.5").retry_policy.first == timedelta(seconds=0.5)
    [found] = problems(DELIVERY__RETRY_CAP_SECONDS="30")
    assert found.startswith("HOOKLEDGER_DELIVERY__RETRY_CAP_SECONDS: the cap of 30 s is below")


def test_no_route_is_disabled_after_a_time_of_which_no_failures_are_kept() -> None:
    assert load(DELIVERY__AUTO_DISABLE_AFTER="5d", RETENTION__ATTEMPTS_DAYS="5").delivery.auto_disable_after
    for after, days in (("31d", "30"), ("73h", "3")):
        [found] = problems(DELIVERY__AUTO_DISABLE_AFTER=after, RETENTION__ATTEMPTS_DAYS=days)
        assert found.startswith(f"HOOKLEDGER_DELIVERY__AUTO_DISABLE_AFTER: failures are kept for {days} days")


@pytest.mark.parametrize("text", ["5", "5 d", "d", "1d x", "-1d", "0s", ""])
def test_a_duration_has_a_number_and_a_unit(text: str, tmp_path: Path) -> None:
    [found] = problems(f'[delivery]\nauto_disable_after = "{text}"\n', tmp_path=tmp_path)
    assert "delivery.auto_disable_after" in found


@pytest.mark.parametrize("header", ["content-type", "Host", "Accept", "webhook-id", "X Y", "x" * 65])
def test_the_signature_header_must_be_a_name_of_its_own(header: str) -> None:
    assert len(problems(SIGNING__HEADER=header)) == 1


def test_public_url_is_made_from_where_we_listen() -> None:
    assert load().server.url() == "http://127.0.0.1:8080"
    assert load(SERVER__LISTEN="[::1]:0").server.url(ListenAddress(host="::1", port=4711)) == "http://[::1]:4711"
    assert load(SERVER__LISTEN="0.0.0.0:80", SERVER__ADMIN_TOKEN="t" * 32).server.url() == "http://localhost:80"
    assert load(SERVER__PUBLIC_URL="https://hooks.example.com/").server.url() == "https://hooks.example.com"


def test_the_data_dir_follows_xdg_and_needs_a_home() -> None:
    assert config.load(None, {"XDG_DATA_HOME": "/data"}).database.data_dir == Path("/data/hookledger")
    with pytest.raises(ConfigError, match="set HOOKLEDGER_DATABASE__DATA_DIR"):
        config.load(None, {})
    assert config.load(None, {"HOOKLEDGER_DATABASE__DATA_DIR": "/srv/x"}).database.data_dir == Path("/srv/x")


def variables_of(command: click.Command) -> Iterator[str]:
    """The variables that stand for an option of the command, or of one below it."""
    for option in command.params:
        yield from [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from variables_of(below)


def test_variables_that_containers_are_given_for_a_service_of_our_name_are_no_settings() -> None:
    load(SERVICE_HOST="10.0.0.1", SERVICE_PORT_HTTP="80", PORT="tcp://10.0.0.1:80", PORT_80_TCP_ADDR="10.0.0.1")


def test_the_variables_of_options_are_no_settings() -> None:
    found = set(variables_of(cli))
    assert found >= {"HOOKLEDGER_CONFIG", "HOOKLEDGER_TOKEN", "HOOKLEDGER_URL", "HOOKLEDGER_LISTEN_KEY"}
    config.load(None, HOME | dict.fromkeys(found, "x"))


def test_no_secret_is_in_any_text_of_the_configuration() -> None:
    loaded = load(
        SERVER__ADMIN_TOKEN="canary",
        DATABASE__URL="postgresql://ada:canary@db.example.com:5433/hooks?sslmode=require&sslpassword=canary",
        EGRESS__PROXY="http://ada:canary@proxy.example.com:3128",
        SIGNING__MASTER_KEY=KEY,
    )
    shown = config.masked(loaded)
    for text in (repr(loaded), str(loaded), str(shown), loaded.model_dump_json(fallback=str)):
        assert "canary" not in text
        assert KEY not in text
    assert shown["database"]["url"] == "postgresql://ada:***@db.example.com:5433/hooks?sslmode=require&sslpassword=***"
    assert shown["egress"]["proxy"] == "http://ada:***@proxy.example.com:3128"
    assert shown["server"]["admin_token"] == "***"
    assert shown["signing"]["master_key"] == ["***"]


def test_no_problem_quotes_a_secret() -> None:
    found = problems(DATABASE__URL="mysql://ada:canary@x/", SIGNING__MASTER_KEY="canary", EGRESS__PROXY="canary")
    assert len(found) == 3
    assert not any("canary" in problem for problem in found)


def test_an_empty_list_of_master_keys_is_a_mistake(tmp_path: Path) -> None:
    [found] = problems("[signing]\nmaster_key = []\n", tmp_path=tmp_path)
    assert found.endswith("signing.master_key: must not be an empty list; leave the key out instead")


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("canary")
    assert f"{secret} {secret!r}" == "*** ***"
    assert secret.reveal() == "canary"
    assert secret == Secret("canary")
    assert secret != Secret("other")
    assert len({secret, Secret("canary")}) == 1


def test_the_dashboard_takes_the_look_of_its_house(tmp_path: Path) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    found = load(
        DASHBOARD__NAME="Shop webhooks",
        DASHBOARD__LOGO_FILE=str(logo),
        DASHBOARD__ACCENT="#3B4FD8",
        DASHBOARD__RETURN_URL="https://shop.example.com/settings",
        DASHBOARD__FRAME_ANCESTORS="https://Shop.example.com:443, https://admin.shop.example.com:8443",
    ).dashboard
    assert found.frame_ancestors == ("https://shop.example.com", "https://admin.shop.example.com:8443")
    assert (found.name, found.return_url) == ("Shop webhooks", "https://shop.example.com/settings")
    assert found.accent is not None
    assert found.accent.light == "#3b4fd8"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("NAME", "x" * 65, "has 65 characters, 64 are allowed"),
        ("NAME", "a\u202eb", "reorder"),
        ("LOGO_FILE", "/nowhere/logo.svg", "No such file"),
        ("ACCENT", "#ffff00", "in the light theme, and needs 4.5:1"),
        ("RETURN_URL", "javascript:alert(1)", "must begin with https://"),
        ("RETURN_URL", "http://shop.example.com/", "http:// is for loopback only"),
        *(
            ("FRAME_ANCESTORS", value, "must be an exact origin such as https://shop.example.com")
            for value in (
                "*",
                "https://*.example.com",
                "https:",
                "http://shop.example.com",
                "shop.example.com",
                "https://shop.example.com/",
                "https://shop.example.com/path",
                "https://shop.example.com; script-src *",
                "https://shop.example.com 'self'",
                "https://shop.example.com:*",
                "https://shop.example.com:70000",
                "https://jane@shop.example.com",
                "'self'",
            )
        ),
    ],
)
def test_what_would_open_or_disfigure_the_dashboard_is_refused(key: str, value: str, says: str) -> None:
    (problem,) = problems("", **{f"DASHBOARD__{key}": value}, tmp_path=None)
    assert problem.startswith(f"HOOKLEDGER_DASHBOARD__{key}: ")
    assert says in problem


def test_a_frame_needs_an_address_over_https() -> None:
    origin = "https://shop.example.com"
    assert load(DASHBOARD__FRAME_ANCESTORS=origin).dashboard.frame_ancestors
    over_https = load(SERVER__PUBLIC_URL="https://hooks.example.com", DASHBOARD__FRAME_ANCESTORS=origin)
    assert over_https.dashboard.frame_ancestors
    (problem,) = problems(SERVER__PUBLIC_URL="http://hooks.example.com", DASHBOARD__FRAME_ANCESTORS=origin)
    assert "browsers keep a session over https only; set server.public_url" in problem
