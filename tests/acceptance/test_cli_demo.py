"""`hookledger demo`: the first of the two commands in the README."""

import re
import signal
import socket
from contextlib import closing
from pathlib import Path
from time import time
from urllib.request import urlopen

import pytest

import daemon.cli.demo
from daemon.cli.demo.receiver import verify
from daemon.core.webhook import signing
from daemon.core.webhook.signing import SigningKey
from tests.support.processes.cli import CommandLine


def test_the_story_comes_true_and_the_demo_ends(without_database: CommandLine) -> None:
    ended = without_database("demo", "--exit", "--listen", "127.0.0.1:0")
    for chapter in (
        "created",
        "disabled",
        "enabled again",
        "answered 503",
        "two signatures",
        "while the route was disabled",
    ):
        assert chapter in ended.out
    assert "The story came true" in ended.out
    assert ended.err == ""


def test_the_settings_of_the_environment_do_not_change_the_demo(without_database: CommandLine) -> None:
    without_database.environment["HOOKLEDGER_DATABASE__URL"] = "postgresql://127.0.0.1:1/nowhere"
    assert "The story came true" in without_database("demo", "--exit", "--listen", "127.0.0.1:0").out


def test_the_daemon_stays_up_until_it_is_told_to_stop(without_database: CommandLine) -> None:
    process = without_database.start("demo", "--listen", "127.0.0.1:0")
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"The dashboard stays up at (http://127\.0\.0\.1:\d+/\S+) until", line):
            break
    else:
        pytest.fail(process.communicate()[1])
    with urlopen(found[1], timeout=10) as page:
        assert "<h1>Webhooks</h1>" in page.read().decode()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_demo_that_is_interrupted_has_not_come_true(without_database: CommandLine, number: int) -> None:
    process = without_database.start("demo", "--listen", "127.0.0.1:0")
    assert process.stdout is not None
    assert "Starting" in process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode in {1, 130}
    assert "Traceback" not in err


def test_a_taken_address_is_one_line(without_database: CommandLine) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = without_database("demo", "--exit", "--listen", address, code=1)
    assert ended.err.startswith(f"error: cannot listen on {address}")


def test_the_receiver_believes_only_its_key_and_both_schemes() -> None:
    key, other = signing.format_key(b"k" * 32), signing.format_key(b"o" * 32)
    ts, body = int(time()), b'{"id": "evt_1"}'
    keys = [SigningKey(key)]
    headers = {
        "OrderGroove-Signature": signing.ordergroove_signature(body, timestamp=ts, keys=keys),
        "webhook-id": "id",
        "webhook-timestamp": str(ts),
        "webhook-signature": signing.standard_signature(body, message_id="id", timestamp=ts, keys=keys),
    }
    assert verify(headers, body, key)
    assert not verify(headers, body, other)
    assert not verify(headers, body + b" ", key)
    assert not verify(headers | {"webhook-id": "another"}, body, key)
    assert not verify({name: value for name, value in headers.items() if name != "webhook-signature"}, body, key)
    assert not verify({}, body, key)


def test_events_of_the_demo_are_shipped_with_the_package() -> None:
    assert Path(daemon.cli.demo.__file__).with_name("events.ndjson").exists()
