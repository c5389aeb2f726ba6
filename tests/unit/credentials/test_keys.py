"""Secrets at rest: what opens, what does not, and the master key that several processes create at once."""

import base64
import errno
import multiprocessing
import os
import pwd
import stat
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventstore.route_log.sealed_secrets
from daemon.core.routing.route import LifecycleEventType, evolve
from daemon.core.webhook.signing import SigningKey, fingerprint
from daemon.credentials import keys
from daemon.credentials.keys import Keychain, Vault, WrongMasterKey, master_key_file, new_key, secret_context
from eventstore.postgres.connect import Database
from tests.support.values.lifecycles import ROUTE, after, config, life

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
NO_DATABASE = cast("Database", None)  # these tests need no database


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_what_was_sealed_opens_with_its_associated_data(plain: bytes, associated_data: bytes) -> None:
    sealed = Vault([NEW]).seal(plain, associated_data)
    assert Vault([NEW]).open(sealed, associated_data) == plain
    assert sealed[:1] == b"\x01"
    assert len(sealed) == 1 + 12 + len(plain) + 16


def test_the_same_text_never_has_the_same_ciphertext() -> None:
    vault = Vault([NEW])
    assert len({vault.seal(b"secret", b"here") for _ in range(100)}) == 100
    assert b"secret" not in vault.seal(b"secret", b"here")


def test_another_key_or_other_associated_data_does_not_open() -> None:
    sealed = Vault([NEW]).seal(b"secret", b"here")
    for vault, context in ((Vault([OTHER]), b"here"), (Vault([NEW]), b"there"), (Vault([OLD, OTHER]), b"here")):
        with pytest.raises(WrongMasterKey):
            vault.open(sealed, context)


def test_the_first_master_key_seals_and_all_of_them_open() -> None:
    both = Vault([NEW, OLD])
    assert both.open(Vault([OLD]).seal(b"old", b"here"), b"here") == b"old"
    sealed = both.seal(b"new", b"here")
    assert Vault([NEW]).open(sealed, b"here") == b"new"
    with pytest.raises(WrongMasterKey):
        Vault([OLD]).open(sealed, b"here")


def test_a_ciphertext_cut_off_anywhere_is_a_wrong_master_key_and_no_other_error() -> None:
    sealed = Vault([NEW]).seal(b"secret", b"here")
    for length in range(len(sealed)):
        with pytest.raises(WrongMasterKey):
            Vault([NEW]).open(sealed[:length], b"here")


def test_a_ciphertext_with_any_bit_changed_does_not_open() -> None:
    sealed = Vault([NEW]).seal(b"secret", b"here")
    for position in range(len(sealed)):
        for bit in (1, 128):
            changed = bytearray(sealed)
            changed[position] ^= bit
            with pytest.raises(WrongMasterKey):
                Vault([NEW]).open(bytes(changed), b"here")


@given(st.binary(max_size=80))
def test_bytes_that_were_never_sealed_do_not_open(garbage: bytes) -> None:
    with pytest.raises(WrongMasterKey):
        Vault([NEW, OLD]).open(garbage, b"here")


@pytest.mark.parametrize("master_keys", [[], [b""], [b"short"], [b"x" * 33], [NEW, b"x" * 31]])
def test_a_vault_needs_keys_of_32_bytes(master_keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(master_keys)


def test_the_associated_data_differs_by_tenant_route_and_item() -> None:
    contexts = {
        secret_context(tenant, route_id, item)
        for tenant in ("a", "b")
        for route_id in (ROUTE, UUID(int=1))
        for item in ("key_1", "key_2")
    }
    assert len(contexts) == 8


@pytest.mark.parametrize("stored", ["", "no base64!", "AAAA", base64.b64encode(b"\x01" * 40).decode()])
async def test_a_database_whose_check_is_garbage_has_another_master_key(
    monkeypatch: pytest.MonkeyPatch, stored: str
) -> None:
    async def first_wins(_database: Database, _ours: str) -> str:
        return stored

    monkeypatch.setattr(eventstore.route_log.sealed_secrets, "master_key_check", first_wins)
    with pytest.raises(WrongMasterKey):
        await Vault([NEW]).check(NO_DATABASE)


async def test_the_check_of_a_database_passes_under_the_key_that_made_it_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored: list[str] = []

    async def first_wins(_database: Database, ours: str) -> str:
        stored.append(ours)
        return stored[0]

    monkeypatch.setattr(eventstore.route_log.sealed_secrets, "master_key_check", first_wins)
    await Vault([OLD]).check(NO_DATABASE)
    await Vault([NEW, OLD]).check(NO_DATABASE)
    with pytest.raises(WrongMasterKey):
        await Vault([NEW]).check(NO_DATABASE)


def test_a_new_key_is_random_and_known_by_its_fingerprint() -> None:
    made = [new_key() for _ in range(50)]
    assert len({key_id for key_id, _, _ in made}) == len({text for _, text, _ in made}) == 50
    for key_id, text, print_ in made:
        assert key_id.startswith("key_")
        assert len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) == 32
        assert fingerprint(text) == print_


def test_cached_keys_are_all_that_are_valid_now_or_none() -> None:
    keychain = Keychain(NO_DATABASE, Vault([NEW]))
    rotated = life(LifecycleEventType.KEY_ROTATED)
    now = rotated.updated_at
    assert keychain.cached_keys(rotated, now) is None
    keychain._keys["key_2"] = SigningKey("new")
    assert keychain.cached_keys(rotated, now) is None
    keychain._keys["key_1"] = SigningKey("old")
    assert keychain.cached_keys(rotated, now) == (SigningKey("new"), SigningKey("old"))
    assert keychain.cached_keys(rotated, now + timedelta(days=2)) == (SigningKey("new"),)


def test_cached_headers_are_empty_without_headers_and_none_before_they_are_loaded() -> None:
    keychain = Keychain(NO_DATABASE, Vault([NEW]))
    route = life()
    assert keychain.cached_headers(route) == {}
    edited = evolve(
        route, after(route, LifecycleEventType.EDITED, config=config(headers_id="hdr_1", header_names=("X",)))
    )
    assert keychain.cached_headers(edited) is None
    keychain._headers["hdr_1"] = {"X": "1"}
    assert keychain.cached_headers(edited) == {"X": "1"}


def test_a_keychain_seals_for_the_route_and_its_item() -> None:
    vault = Vault([NEW])
    keychain = Keychain(NO_DATABASE, vault)
    sealed = keychain.seal_key("acme", ROUTE, "key_1", "whsec_x")
    assert vault.open(sealed, secret_context("acme", ROUTE, "key_1")) == b"whsec_x"
    with pytest.raises(WrongMasterKey):
        vault.open(sealed, secret_context("globex", ROUTE, "key_1"))
    sealed = keychain.seal_headers("acme", ROUTE, "hdr_1", {"X": "é"})
    assert vault.open(sealed, secret_context("acme", ROUTE, "hdr_1")) == '{"X":"é"}'.encode()


def test_a_master_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "master.key"
    mask = os.umask(0)
    try:
        key = master_key_file(path)
    finally:
        os.umask(mask)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert master_key_file(path) == key
    assert base64.b64decode(path.read_text()) == key
    assert [each.name for each in path.parent.iterdir()] == ["master.key"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "  \n"])
def test_a_master_key_that_a_person_wrote_is_read(tmp_path: Path, end: str) -> None:
    path = tmp_path / "master.key"
    path.write_text(base64.b64encode(NEW).decode() + end)
    assert master_key_file(path) == NEW


@pytest.mark.parametrize(
    "content",
    [b"hunter2", b"not base64 at all!", base64.b64encode(b"short"), base64.b64encode(b"x" * 33), b"\xff\xfe\x00", NEW],
)
def test_a_file_that_is_no_key_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(content)
    with pytest.raises(WrongMasterKey, match=r"master\.key does not hold a master key"):
        master_key_file(path)
    assert path.read_bytes() == content


def test_a_file_that_stays_empty_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_WRITING_SECONDS", 0.02)
    path = tmp_path / "master.key"
    path.touch()
    with pytest.raises(WrongMasterKey, match="does not hold a master key"):
        master_key_file(path)


def test_a_process_that_reads_between_creation_and_writing_waits_for_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "master.key"
    path.touch()
    has_looked = threading.Event()
    monkeypatch.setattr("daemon.credentials.keys.time.sleep", lambda _seconds: has_looked.set())
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(master_key_file(path)))
    reader.start()
    assert has_looked.wait(10)
    path.write_text(base64.b64encode(NEW).decode() + "\n")
    reader.join(10)
    assert found == [NEW]


def test_a_process_that_loses_the_race_to_create_the_file_reads_the_winners_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "master.key"

    def lost(*_arguments: object) -> int:
        path.write_text(base64.b64encode(OTHER).decode() + "\n")
        raise FileExistsError

    monkeypatch.setattr("daemon.credentials.keys.os.link", lost)
    assert master_key_file(path) == OTHER
    assert [each.name for each in tmp_path.iterdir()] == ["master.key"]


def test_a_disk_that_is_full_leaves_no_file_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "master.key"

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("daemon.credentials.keys.os.fsync", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            master_key_file(path)
        assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []
    assert len(master_key_file(path)) == 32


def test_a_file_that_cannot_be_read_or_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "master.key").mkdir()
    with pytest.raises(WrongMasterKey, match=r"master\.key cannot be read") as caught:
        master_key_file(tmp_path / "master.key")
    assert "the daemon's user may read" in caught.value.hint
    (tmp_path / "file").touch()
    with pytest.raises(WrongMasterKey, match=r"no master key can be made in .*master\.key") as caught:
        master_key_file(tmp_path / "file" / "below" / "master.key")
    assert "database.data_dir" in caught.value.hint


def test_a_key_that_root_makes_in_a_directory_of_the_daemons_user_belongs_to_that_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    nobody = pwd.getpwnam("nobody")
    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)
    master_key_file(tmp_path / "master.key")
    made = (tmp_path / "master.key").stat()
    assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (nobody.pw_uid, 0o600)


def _make(path: Path, start: float) -> bytes:
    while time.time() < start:
        pass
    return master_key_file(path)


def test_processes_that_make_the_key_at_once_all_have_the_same(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(max_workers=4, mp_context=context) as pool:
        for number in range(5):
            path = tmp_path / f"{number}.key"
            start = time.time() + 0.02
            made = list(pool.map(_make, [path] * 4, [start] * 4))
            assert len(set(made)) == 1
            assert master_key_file(path) == made[0]


def test_secrets_that_are_not_used_are_forgotten_and_those_in_use_stay() -> None:
    keychain = Keychain(NO_DATABASE, Vault([NEW]))
    busy, idle = (
        life(route_id=UUID(int=number), pos=number, config=config(headers_id=f"h{number}")) for number in (1, 2)
    )
    for number in (1, 2):
        keychain._keys[f"key_{number}"] = SigningKey("text")
        keychain._headers[f"h{number}"] = {"X-A": "b"}
    now = busy.created_at
    for _ in range(3):
        keychain.age()
        assert keychain.cached_keys(busy, now) == (SigningKey("text"),)
        assert keychain.cached_headers(busy) == {"X-A": "b"}
    assert (keychain.cached_keys(idle, now), keychain.cached_headers(idle)) == (None, None)
    assert (len(keychain._keys), len(keychain._headers)) == (1, 1)
