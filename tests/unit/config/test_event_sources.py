"""`[sources.NAME]`: what is accepted, what is refused, and which key a refusal names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from daemon import config
from daemon.config import Config, ConfigError, Secret
from daemon.config.event_sources import SaslMechanism, SourceBegin, SourceFormat, SourceSection, group_of

HOME = {"HOME": "/home/ada"}
EXAMPLE = Path(__file__).parents[3] / "deploy" / "hookledger.toml"
LEAST = '[sources.orders]\nbrokers = "k:9092"\ntopics = "orders"\n'

# A literal copy of the keys and defaults.
DEFAULTS: dict[str, object] = {
    "brokers": ["k:9092"],
    "topics": ["orders"],
    "group": None,
    "begin": "earliest",
    "format": "hookledger",
    "filter": None,
    "tenant": None,
    "type": None,
    "id": None,
    "occurred_at": None,
    "data": None,
    "context": None,
    "snapshot": None,
    "tls": False,
    "ca_file": None,
    "certificate_file": None,
    "key_file": None,
    "sasl": None,
    "username": None,
    "password": None,
}


def load(tmp_path: Path, toml: str, /, **environ: str) -> Config:
    path = tmp_path / "hookledger.toml"
    path.write_text(toml)
    return config.load(path, HOME | {f"HOOKLEDGER_{name}": text for name, text in environ.items()})


def problems(tmp_path: Path, toml: str, /, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml, **environ)
    return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def test_a_source_needs_only_its_brokers_and_topics(tmp_path: Path) -> None:
    loaded = load(tmp_path, LEAST)
    assert config.masked(loaded)["sources.orders"] == DEFAULTS
    assert group_of("orders", loaded.sources["orders"]) == "hookledger.orders"


def test_every_key_of_the_example_is_one(tmp_path: Path) -> None:
    block = re.search(r"(?ms)^#\[sources\.orders\].*?(?=^$)", EXAMPLE.read_text())
    assert block is not None
    toml = re.sub(r"(?m)^##? ?", "", block[0])
    files = re.findall(r'"(/etc/\S+)"', toml)
    for number, file in enumerate(files):
        (tmp_path / str(number)).touch()
        toml = toml.replace(file, str(tmp_path / str(number)))
    toml = toml.replace("tls = false", "tls = true").replace('format = "hookledger"', 'format = "mapped"')
    loaded = load(tmp_path, toml.replace('password = ""', 'password = "x"'))
    assert set(re.findall(r"(?m)^([a-z_]+) = ", toml)) == set(SourceSection.model_fields)
    assert loaded.sources["orders"].password == Secret("x")


def test_a_source_may_be_in_the_environment_alone(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2\n")
    loaded = load(
        tmp_path,
        "",
        SOURCES__EU_ORDERS__BROKERS="k1:9092, [::1]:9093",
        SOURCES__EU_ORDERS__TOPICS="orders,refunds",
        SOURCES__EU_ORDERS__SASL="scram-sha-512",
        SOURCES__EU_ORDERS__USERNAME="ada",
        SOURCES__EU_ORDERS__PASSWORD_FILE=str(password),
        SOURCES__EU_ORDERS__BEGIN="latest",
        SOURCES__EU_ORDERS__FORMAT="cloudevents",
    )
    source = loaded.sources["eu_orders"]
    assert (source.brokers, source.topics) == (("k1:9092", "[::1]:9093"), ("orders", "refunds"))
    assert (source.sasl, source.password) == (SaslMechanism.SCRAM_SHA_512, Secret("hunter2"))
    assert (source.begin, source.format) == (SourceBegin.LATEST, SourceFormat.CLOUDEVENTS)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, LEAST, SOURCES__ORDERS__TOPICS="others").sources["orders"].topics == ("others",)


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    secret = 'sasl = "plain"\nusername = "ada"\npassword = "hunter2"\n'
    assert "hunter2" not in str(config.masked(load(tmp_path, LEAST + secret)))
    told = problems(tmp_path, '[sources.orders]\ntopics = "orders"\n' + secret)
    assert told == ["sources.orders.brokers: is missing; set it in [sources.orders]"]


_MAPPED = 'format = "mapped"\ntenant = "key"\ntype = "value.type"\ndata = "value"\n'

REFUSED: list[tuple[str, list[str]]] = [
    ('topics = ""', ["sources.orders.topics: must not be an empty list; name at least one, such as orders"]),
    ('topics = ["a b"]', ["sources.orders.topics: 'a b' is no topic: those have 1 to 249 letters, digits, dots"]),
    ('brokers = "kafka"', ["sources.orders.brokers: 'kafka' is no broker: write host:port"]),
    (
        "brokers = []",
        ["sources.orders.brokers: must not be an empty list; name at least one, such as kafka.example.com"],
    ),
    ("topics = []", ["sources.orders.topics: must not be an empty list; name at least one, such as orders"]),
    (
        'brokers = "kafka:99999"',
        ["sources.orders.brokers: 'kafka:99999' is no broker: there is no port 99999; the highest is 65535"],
    ),
    ('brokers = "kafka:0"', ["sources.orders.brokers: 'kafka:0' is no broker: it has no port to connect to"]),
    ('format = "avro"', ["sources.orders.format: 'avro' is not one of hookledger, cloudevents, mapped"]),
    ('formt = "mapped"', ["unknown key sources.orders.formt; did you mean format?"]),
    (
        'format = "mapped"',
        [f"sources.orders.{name}: is missing: with format" for name in ("tenant", "type", "data")],
    ),
    ('tenant = "key"', ['sources.orders.tenant: is for format = "mapped", and the format is "hookledger"']),
    (_MAPPED + 'id = "value.["', ["sources.orders.id: 'value.[' is no JMESPath expression"]),
    (_MAPPED + 'id = "uuid(key)"', ["sources.orders.id: 'uuid(key)' calls uuid(), which is no function of JMESPath"]),
    ('ca_file = "/nowhere.pem"', ["sources.orders.ca_file: is for TLS; set tls = true"]),
    ('tls = true\nca_file = "/nowhere.pem"', ["sources.orders.ca_file: no file /nowhere.pem"]),
    ('sasl = "plain"', ["sources.orders.username: is missing", "sources.orders.password: is missing"]),
    ('username = "ada"', ["sources.orders.sasl: is missing beside username"]),
    (
        '[sources.copy]\nbrokers = "k:1"\ntopics = "t"\ngroup = "hookledger.orders"',
        ["hookledger.orders is the group of"],
    ),
    ("[sources.Orders]", ["[sources.Orders]: a name has a-z, 0-9 and single underscores"]),
    ("[source.orders]", ["unknown section [source]; did you mean sources?"]),
]


@pytest.mark.parametrize(("toml", "told"), REFUSED, ids=[toml.splitlines()[-1] for toml, _ in REFUSED])
def test_a_refusal_names_the_key_to_set(tmp_path: Path, toml: str, told: list[str]) -> None:
    keys: dict[str, Any] = dict(re.findall(r"(?m)^([a-z_]+) = (.*)$", toml.partition("[")[0]))
    rest = "\n".join(line for line in LEAST.splitlines() if line.partition(" ")[0] not in keys)
    found = problems(tmp_path, f"{rest}\n{toml}\n")
    assert len(found) == len(told)
    for problem, beginning in zip(found, told, strict=True):
        assert beginning in problem


def test_sources_that_are_no_sections_are_told_how(tmp_path: Path) -> None:
    assert "write [sources.orders]" in problems(tmp_path, "[sources]\norders = 1\n")[0]
    assert "write [sources.<name>]" in problems(tmp_path, "sources = 1\n")[0]


def test_a_variable_of_a_source_that_is_none_is_unknown(tmp_path: Path) -> None:
    found = problems(tmp_path, LEAST, SOURCES__ORDERS__TOPIC="x")
    assert found == [
        "HOOKLEDGER_SOURCES__ORDERS__TOPIC: unknown variable; did you mean HOOKLEDGER_SOURCES__ORDERS__TOPICS?"
    ]


def test_a_reload_takes_sources_that_are_new_gone_or_changed(tmp_path: Path) -> None:
    gone, added = (
        '[sources.NAME]\nbrokers = "k:9092"\ntopics = "x"\n'.replace("NAME", name) for name in ("gone", "added")
    )
    old = load(tmp_path, LEAST + gone)
    new = load(tmp_path, LEAST + 'username = "ada"\nsasl = "plain"\npassword = "x"\n' + added)
    assert set(config.changed_keys(old, new)) == {
        ("sources", "gone"), ("sources", "added"),
        ("sources.orders", "username"), ("sources.orders", "sasl"), ("sources.orders", "password"),
    }  # fmt: skip
    config.check_change(old, new)
