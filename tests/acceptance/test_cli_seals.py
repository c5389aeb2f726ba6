"""Seals from outside: a daemon makes them, an auditor checks them with heads and proofs that were kept elsewhere."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from daemon.core.sealing.head import PublicSealKey, SignedHead, log_name
from daemon.sealing.anchoring import anchor_file
from daemon.store import opened
from eventstore.domain_events import ticks
from eventstore.postgres.connect import Database
from tests.support.audit.seals import VAULT, seal
from tests.support.processes.cli import CommandLine

EVENT = '{"tenant": "acme", "type": "order.create", "id": "evt_1", "data": {"total": 5}}'
REFUSING = "http://127.0.0.1:9/"


@pytest.fixture
def url(hookledger: CommandLine, tmp_path: Path) -> Iterator[str]:
    """The URL of a daemon that seals every second."""
    hookledger.environment |= {
        "HOOKLEDGER_SEAL__EVERY_SECONDS": "1",
        "HOOKLEDGER_SEAL__ANCHOR_FILE": str(tmp_path / "anchors"),
    }
    process = hookledger.start("run", "--listen", "127.0.0.1:0", "--dev")
    assert process.stdout is not None
    found = re.match(r"ready: dashboard and API (http://127\.0\.0\.1:\d+)", process.stdout.readline())
    try:
        assert found
        yield found[1]
    finally:
        _stopped(process)


def _stopped(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    assert process.returncode == 0


async def answered(url: str) -> bytes:
    """The answer, as soon as it is 200."""
    async with asyncio.timeout(60):
        while True:
            try:
                with urllib.request.urlopen(url) as answer:
                    body: bytes = answer.read()
                    return body
            except urllib.error.HTTPError as error:
                if error.code not in {404, 409}:
                    raise
            await asyncio.sleep(0.05)


async def proof_of(url: str, *, outcomes: int = 1) -> dict[str, Any]:
    """The proof of the first delivery, as soon as so many outcomes of it are sealed."""
    async with asyncio.timeout(60):
        while not (items := json.loads(await answered(f"{url}/v1/tenants/acme/deliveries"))["items"]):
            await asyncio.sleep(0.05)
        while True:
            proof: dict[str, Any] = json.loads(
                await answered(f"{url}/v1/tenants/acme/deliveries/{items[0]['id']}/proof?event=evt_1")
            )
            if len(proof["rows"]) > outcomes:
                return proof
            await asyncio.sleep(0.05)


def flipped(part: object, old: str, new: str) -> object:
    """A part of a proof with its first `old` replaced."""
    changed: object = json.loads(json.dumps(part).replace(old, new, 1))
    return changed


async def test_a_delivery_is_proven_to_somebody_with_the_public_key_alone(
    hookledger: CommandLine, url: str, tmp_path: Path
) -> None:
    hookledger.create_route("--target-url", REFUSING, "--dev")
    hookledger("publish", stdin=EVENT)
    proof = await proof_of(url)
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    (tmp_path / "key.json").write_bytes(await answered(f"{url}/v1/seals/key"))
    auditor = CommandLine(tmp_path)
    proven = auditor("verify", "proof.json", "--key", "key.json", "--json").json
    assert (proven["event"], proven["tenant"], proven["attempts"][0]["number"]) == ("evt_1", "acme", 1)
    assert proven["attempts"][0]["error"] == "connect_refused"
    (tmp_path / "key.txt").write_text(json.loads((tmp_path / "key.json").read_text())["key"] + "\n")
    shown = auditor("verify", "proof.json", "--key", "key.txt").out
    assert shown.startswith("the proof holds: signed by this key, and nothing was changed since it was sealed\n")
    assert "evt_1 (order.create) of acme" in shown
    assert "outcomes, by what the document says" in shown  # that number is not proven
    for part, old, new, sentence in (  # "1" and "0" differ in one bit, and so do "r" and "s"
        ("rows", "evt_1", "evt_0", "a row of domain_event is not in seal"),
        ("head", "hookledger/", "hookledges/", "the signature of the head of"),
    ):
        (tmp_path / "flipped.json").write_text(json.dumps(proof | {part: flipped(proof[part], old, new)}))
        refused = auditor("verify", "flipped.json", "--key", "key.txt", code=1).err
        assert refused.startswith("error: the proof in flipped.json does not hold: ")
        assert sentence in refused
    ours = PublicSealKey.parse((tmp_path / "key.txt").read_text())
    foreign = PublicSealKey(name=ours.name, key=bytes([ours.key[0] ^ 1]) + ours.key[1:])
    (tmp_path / "foreign.txt").write_text(foreign.text)
    assert "is signed by another key" in auditor("verify", "proof.json", "--key", "foreign.txt", code=1).err
    # The machine of the daemon knows its own key.
    assert hookledger("verify", str(tmp_path / "proof.json"), "--json").json == proven


# What somebody with the database changes, and the sentence by which the auditor learns of it.
CHANGES = {
    "UPDATE hookledger.resend SET actor = 'mallory'": "resend: of the 1 manual retries of",
    "DELETE FROM hookledger.resend": "resend: 1 manual retries of",
    "UPDATE hookledger.replay SET actor = 'mallory'": "replay: of the 1 replays that began of",
    "UPDATE hookledger.api_token SET name = 'mallory'": "api_token: of the 1 tokens that were made of",
}


async def test_the_audit_tells_that_somebody_else_is_said_to_have_had_a_delivery_sent_again(
    hookledger: CommandLine, url: str, database_url: str, tmp_path: Path
) -> None:
    route = hookledger.create_route("--target-url", REFUSING, "--dev")
    hookledger("token", "create", "--scope", "auditor", "--name", "for the auditor")
    hookledger("publish", stdin=EVENT)
    delivery = (await proof_of(url))["delivery"]
    hookledger("deliveries", "retry", delivery, "--tenant", "acme", "--event", "evt_1", "--reason", "they asked for it")
    hookledger("deliveries", "replay", route["id"], "--from", "2020-01-01T00:00:00Z", "--yes")
    connection = await asyncpg.connect(database_url)
    async with asyncio.timeout(60):
        while not await connection.fetchval(
            "SELECT max(resends) > '' AND max(replays) > '' AND max(tokens) > '' FROM hookledger.seal"
        ):
            await asyncio.sleep(0.05)
    proof = await answered(f"{url}/v1/tenants/acme/deliveries/{delivery}/proof?event=evt_1")
    (tmp_path / "proof.json").write_bytes(proof)
    shown = hookledger("verify", str(tmp_path / "proof.json")).out
    assert re.search(r"sent again +by cli:\S+ at .*: they asked for it", shown), shown
    (again,) = hookledger("verify", str(tmp_path / "proof.json"), "--json").json["sent_again"]
    assert (again["actor"].partition(":")[0], again["reason"]) == ("cli", "they asked for it")
    await connection.execute("SET session_replication_role = replica; CREATE SCHEMA kept")
    for table in ("resend", "replay", "api_token"):
        await connection.execute(f"CREATE TABLE kept.{table} AS SELECT * FROM hookledger.{table}")
    assert hookledger("audit", "--json", code=None).json["seals"]["findings"] == []
    for change, sentence in CHANGES.items():
        await connection.execute(change)
        (told,) = hookledger("audit", "--json", code=1).json["seals"]["findings"]
        assert f"{told['part']}: {told['detail']}".startswith(sentence)
        await connection.execute(
            "UPDATE hookledger.replay SET actor = k.actor FROM kept.replay k;"
            " DELETE FROM hookledger.resend;"
            " INSERT INTO hookledger.resend OVERRIDING SYSTEM VALUE SELECT * FROM kept.resend;"
            " UPDATE hookledger.api_token SET name = k.name FROM kept.api_token k"
        )
    await connection.close()


async def test_the_audit_compares_the_seals_with_heads_that_were_kept_elsewhere(
    hookledger: CommandLine, url: str, tmp_path: Path, database_url: str
) -> None:
    hookledger.create_route("--target-url", REFUSING, "--dev")
    hookledger("publish", stdin=EVENT)
    await proof_of(url)
    anchors = tmp_path / "anchors"
    report = hookledger("audit", "--anchors", str(anchors), "--json").json["seals"]
    assert (report["findings"], report["anchors"] > 0, report["rows"] >= 2) == ([], True, True)
    assert "the seals are whole" in hookledger("audit", "--anchors", str(anchors)).out
    nothing = hookledger("audit", "--from", "2100-01-01T00:00:00Z", code=None).out
    assert "none of them is of this period" in nothing
    await audited_by_others(tmp_path, database_url, url, anchors)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "SET session_replication_role = replica; UPDATE hookledger.attempt SET duration_ms = 99999"
    )
    await connection.close()
    ended = hookledger("audit", "--anchors", str(anchors), code=1)
    assert "at least one is not as it was sealed" in ended.out


async def audited_by_others(tmp_path: Path, database_url: str, url: str, anchors: Path) -> None:
    """Somebody without the master key proves with the public one, and not without it or with another one."""
    (tmp_path / "auditor").mkdir()
    auditor = CommandLine(tmp_path / "auditor", database_url)
    unsigned = auditor("audit", code=1)
    assert "without a public key of ours it was not checked who signed the seals" in unsigned.err
    assert "without a public key" in auditor("audit", "--json", code=1).json["seals"]["gaps"][0]
    (tmp_path / "key.json").write_bytes(await answered(f"{url}/v1/seals/key"))
    signed = auditor("audit", "--key", str(tmp_path / "key.json"), "--anchors", str(anchors), "--json").json["seals"]
    assert (signed["gaps"], signed["findings"]) == ([], [])
    ours = PublicSealKey.parse(json.loads((tmp_path / "key.json").read_text())["key"])
    foreign = PublicSealKey(name=ours.name, key=bytes([ours.key[0] ^ 1]) + ours.key[1:])
    (tmp_path / "foreign").write_text(foreign.text)
    refused = auditor("audit", "--key", str(tmp_path / "foreign"), code=1).out
    assert "is signed by a key that is not ours" in refused
    # A head that tells of another lineage, in an envelope like ours.
    first = json.loads(anchors.read_text().splitlines()[0])
    first["note"] = first["note"].replace("/", "/elsewhere", 1)
    (tmp_path / "other").write_text(json.dumps(first) + "\n")
    other = auditor("audit", "--key", str(tmp_path / "key.json"), "--anchors", str(tmp_path / "other"), code=1)
    assert "line 1: the head is of another log, hookledger/elsewhere" in other.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no signed head"),
        ("{}\n", "line 1 is no signed head: it has no note"),
        ('{"seal":1,"note":"hookledger/a/1\\n1\\n', "line 1 is no signed head: it is no JSON; was it cut off?"),
        ('{"note": "hookledger/a/1\\n1\\n"}', "line 1 is no signed head: a signed head has an origin"),
        (b"\xff", "is no text"),
        ("\ufeff{}\n", "begins with a byte order mark"),
        ('{"note": "a", "note": "b"}\n', "line 1 is no signed head: it has two notes"),
        ('{"note": "a", "no\\u0074e": "b"}\n', "line 1 is no signed head: it has two notes"),
        ("{}\x0b{}\n", "line 1 is no signed head: it is no JSON"),
        ("{" * 100_000, "line 1 is no signed head: it is no JSON"),
        ('{"note": ' + "[" * 2000 + "]" * 2000 + "}", "line 1 is no signed head: it is no JSON"),
    ],
)
def test_an_anchor_file_that_is_none_is_refused(
    hookledger: CommandLine, tmp_path: Path, content: str | bytes, message: str
) -> None:
    (tmp_path / "anchors").write_bytes(content.encode() if isinstance(content, str) else content)
    ended = hookledger("audit", "--anchors", str(tmp_path / "anchors"), code=1)
    assert message in ended.err


def test_a_file_without_an_end_is_not_read_to_it(hookledger: CommandLine, tmp_path: Path) -> None:
    hookledger.create_route()  # makes the master key
    (tmp_path / "proof.json").write_text("{}")
    for arguments in (
        ("verify", "/dev/zero"),
        ("verify", str(tmp_path / "proof.json"), "--key", "/dev/zero"),
        ("audit", "--anchors", "/dev/zero"),
    ):
        assert "error: /dev/zero has more than" in hookledger(*arguments, code=1).err


def test_a_place_without_anchors_is_told(hookledger: CommandLine, tmp_path: Path) -> None:
    assert "cannot be read: No such file" in hookledger("audit", "--anchors", str(tmp_path / "none"), code=1).err
    assert "does not answer" in hookledger("audit", "--anchors", "http://127.0.0.1:9/", code=1).err
    assert "leave --tenant out" in hookledger("audit", "--anchors", "f", "--tenant", "acme", code=2).err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no JSON"),
        (b'["\xff"]', "is no JSON: it is not UTF-8"),
        ("[]", "this is no proof of a delivery"),
        (
            '{"format": "hookledger-delivery-proof-1"}',
            "this is no proof of a delivery: a proof has the members format, delivery",
        ),
        ('{"format": "hookledger-delivery-proof-1", "head": 5}', "this is no proof of a delivery"),
    ],
)
def test_a_file_that_is_no_proof_is_refused(
    hookledger: CommandLine, tmp_path: Path, content: str | bytes, message: str
) -> None:
    hookledger.create_route()  # makes the master key
    (tmp_path / "proof.json").write_bytes(content.encode() if isinstance(content, str) else content)
    assert message in hookledger("verify", str(tmp_path / "proof.json"), code=1).err


def test_without_a_key_a_proof_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text("{}")
    (tmp_path / "key").write_text("hookledger/a+00000000+AAAA")
    auditor = CommandLine(tmp_path)
    assert "name the public key with --key" in auditor("verify", "proof.json", code=1).err
    assert "no public key of seals" in auditor("verify", "proof.json", "--key", "key", code=1).err


async def test_heads_that_are_not_of_these_seals_are_told_and_fail_the_audit(
    hookledger: CommandLine, database_url: str, tmp_path: Path
) -> None:
    """Heads that a key of ours has signed: of another lineage of this log, of more seals, of none, and of others."""
    hookledger.environment["HOOKLEDGER_SIGNING__MASTER_KEY"] = base64.b64encode(b"k" * 32).decode()
    hookledger.create_route()
    hookledger("publish", stdin=EVENT)
    async with opened(Database(database_url)) as database:
        await ticks.make(database)
        sealed = await seal(database)
    assert sealed.head is not None
    ours, (key, *_) = sealed.head.head, VAULT.seal_keys
    log, _, lineage = ours.origin.rpartition("/")
    other = f"{log}/{int(lineage) + 1}"
    for told, sentences in (
        (ours, []),
        (
            replace(ours, origin=other),
            [f"the head is of another lineage, {other}: seal 1 here was made in {ours.origin}"],
        ),
        (replace(ours, size=2), ["the head is of 2 seals, and only the first 1 are here, and whole"]),
        (replace(ours, size=0), ["the head is of no seals"]),
        (
            replace(ours, root=bytes(32)),
            ["the first 1 seals are not those of the head: one of them was changed, or made again"],
        ),
    ):
        public = PublicSealKey(name=log_name(told.origin), key=key.public)
        signed = SignedHead(head=told, signatures=((public.name, public.id, key.sign(told.text)),))
        (tmp_path / "anchors").write_bytes(anchor_file.line_of(signed, sealed.now))
        ended = hookledger("audit", "--anchors", str(tmp_path / "anchors"), "--json", code=1)  # its event is not read
        found = [each["detail"] for each in ended.json["seals"]["findings"] if each["part"] == "anchor"]
        assert found == [f"line 1: {sentence}" for sentence in sentences]
