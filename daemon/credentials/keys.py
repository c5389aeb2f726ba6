"""Secrets at rest: verification keys and header values, sealed with AES-256-GCM under a master key.

A sealed value is bound to its tenant, route and id as associated data, so that rows cannot be swapped. The first master
key of the list seals, and all of them open: that is how a master key is rotated (`rewrap`). `Keychain` caches what it
has opened, because the hot path signs with the same few keys all the time.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import eventstore.access.macs
import eventstore.leases.process
from daemon.config import MASTER_KEY_BYTES
from daemon.core.routing.route import Route
from daemon.core.sealing.head import SEED_BYTES, SealKey, lifecycle_text
from daemon.core.webhook.signing import SigningKey, fingerprint, format_key
from daemon.credentials import check_value
from eventstore.access.macs import CredentialMacs
from eventstore.postgres.connect import Database
from eventstore.progress.log_macs import LogKey, LogMacs
from eventstore.route_log import sealed_secrets
from eventstore.route_log.sealed_secrets import Table

_NONCE_BYTES = 12
_WRITING_SECONDS = 2.0
_FORMAT = b"\x01"
_CHECK_ASSOCIATED_DATA = b"master_key_check"
_CONFIGURE_THE_KEY = "set signing.master_key to the key that sealed them last, or a list that has it"

_Secret = TypeVar("_Secret")


class WrongMasterKey(Exception):
    """No configured master key opens a stored secret, or a file does not hold one. `hint` says what to do."""

    def __init__(self, message: str, *, hint: str = _CONFIGURE_THE_KEY) -> None:
        super().__init__(message)
        self.hint = hint


class MasterKeyInUse(Exception):
    """A running daemon still seals with another master key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrapped:
    """How many secrets were resealed, and how many were already sealed under the first master key."""

    resealed: int
    current: int


class Vault:
    """Seals and opens under a list of master keys of 32 bytes each. The keys that sign seals are derived from them: so
    every process with the master key signs with the same one, and it is never in the database.
    """

    def __init__(self, master_keys: Sequence[bytes]) -> None:
        if not master_keys or any(len(key) != MASTER_KEY_BYTES for key in master_keys):
            raise ValueError("a master key has 32 bytes, and at least one is needed")
        self._ciphers = [AESGCM(key) for key in master_keys]
        self.id = hashlib.sha256(b"hookledger master key id\n" + master_keys[0]).hexdigest()[:16]
        # The first signs; what an older one signed stays known for as long as it is configured.
        self.seal_keys = tuple(SealKey(_derived(key, b"hookledger seal key")) for key in master_keys)
        self._log_macs: LogMacs | None = None
        # For tokens, sessions and login links.
        self.macs = CredentialMacs([_derived(key, b"hookledger credential key") for key in master_keys])

    @property
    def log_macs(self) -> LogMacs:
        """What makes the MACs of the log in the database for which `check` was called last."""
        if self._log_macs is None:
            raise RuntimeError("the vault was not checked yet")
        return self._log_macs

    def seal(self, plain: bytes, associated_data: bytes) -> bytes:
        """The ciphertext of `plain`, which opens only with the same associated data."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._ciphers[0].encrypt(nonce, plain, associated_data)

    def open(self, sealed: bytes, associated_data: bytes) -> bytes:
        """The plaintext. Raises WrongMasterKey if no key fits, or the associated data differs."""
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        is_ours = sealed[:1] == _FORMAT and len(nonce) == _NONCE_BYTES
        for cipher in self._ciphers if is_ours else ():
            try:
                return cipher.decrypt(nonce, ciphertext, associated_data)
            except InvalidTag:
                continue
        raise WrongMasterKey("a stored secret cannot be opened with the configured master key")

    def reseal(self, sealed: bytes, associated_data: bytes) -> bytes | None:
        """The value sealed under the first key; None if it is already. Raises WrongMasterKey."""
        with suppress(InvalidTag):
            self._ciphers[0].decrypt(sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :], associated_data)
            return None
        return self.seal(self.open(sealed, associated_data), associated_data)

    async def check(self, database: Database) -> str:
        """The check value of this database, created if missing. Raises WrongMasterKey if none of our keys opens it, and
        SchemaMismatch if it is of an older schema.
        """
        stored = await sealed_secrets.master_key_check(database, self._check_value(check_value.new_text()))
        self._log_macs = check_value.log_key_in(self._opened(stored)).macs
        return stored

    async def require(self, database: Database) -> None:
        """As `check`, and writes nothing: a database without a check value has no secrets yet. Nor does it look of
        which schema that is.
        """
        stored = await sealed_secrets.stored_master_key_check(database)
        if stored is not None:
            self._opened(stored)

    async def log_key(self, database: Database) -> LogKey | None:
        """What makes the MACs of the log in this database. None if it has no check value: then no daemon has worked on
        it.

        Raises WrongMasterKey and SchemaMismatch as `check` does.
        """
        stored = await sealed_secrets.stored_master_key_check(database)
        return None if stored is None else check_value.log_key_in(self._opened(stored))

    def check_value_of(self, version: int, stored: str, first_seal: int = 1) -> str:
        """The check value of a database that comes to version 8 or 9 of the schema, from the one that it had; in
        version 9 with the number of the first seal of which every row of the log has a MAC.

        Raises WrongMasterKey if none of our keys opens it, and SchemaMismatch if it is of that version already.
        """
        return self._check_value(check_value.text_of(version, self._opened(stored), first_seal=first_seal))

    def _check_value(self, text: bytes) -> str:
        return base64.b64encode(self.seal(text, _CHECK_ASSOCIATED_DATA)).decode()

    def _opened(self, stored: str) -> bytes:
        return self.open(_decoded(stored), _CHECK_ASSOCIATED_DATA)


async def rewrap(database: Database, vault: Vault) -> Rewrapped:
    """Reseals every secret of the database under the vault's first master key, while daemons may be running, and makes
    the MACs of tokens, sessions and login links anew.

    All running daemons must seal with that key already: then they open what is resealed here, and store nothing under
    another key. The check value is resealed first, so that no daemon without the key can start. After an interruption
    it can be run again, because a secret that is already under the key is left alone.

    Raises MasterKeyInUse, WrongMasterKey or StoreUnavailable.
    """
    await _check_running_daemons(database, vault)
    check = await vault.check(database)
    resealed = vault.reseal(_decoded(check), _CHECK_ASSOCIATED_DATA)
    if resealed is not None:
        await sealed_secrets.replace_master_key_check(database, check, base64.b64encode(resealed).decode())
    counts = [await _rewrap_table(database, vault, table) for table in Table]
    await eventstore.access.macs.renew(database, vault.macs)
    await _check_running_daemons(database, vault)
    return Rewrapped(resealed=sum(each.resealed for each in counts), current=sum(each.current for each in counts))


async def _rewrap_table(database: Database, vault: Vault, table: Table) -> Rewrapped:
    resealed = current = 0
    async for page in sealed_secrets.pages(database, table):
        fresh = [vault.reseal(each.sealed, secret_context(each.tenant, each.route_id, each.item)) for each in page]
        stale = [(each, new) for each, new in zip(page, fresh, strict=True) if new is not None]
        if stale:
            resealed += await sealed_secrets.exchange(database, table, *zip(*stale, strict=True))
        current += len(page) - len(stale)
    return Rewrapped(resealed=resealed, current=current)


async def _check_running_daemons(database: Database, vault: Vault) -> None:
    others = await eventstore.leases.process.with_other_master_key(database, vault.id)
    if others:
        processes = ", ".join(f"{pid} on {host}" for host, pid in others)
        raise MasterKeyInUse(f"a daemon still seals with another master key: process {processes}")


def _derived(master_key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=SEED_BYTES, salt=None, info=purpose).derive(master_key)


def _decoded(check: str) -> bytes:
    try:
        return base64.b64decode(check, validate=True)
    except ValueError:
        return b""


def new_key(brought: str | None = None) -> tuple[str, str, str]:
    """A new verification key: its id, its text and its fingerprint. The text is random unless it is brought along."""
    text = format_key(secrets.token_bytes(32)) if brought is None else brought
    return f"key_{secrets.token_hex(6)}", text, fingerprint(text)


def master_key_file(path: Path) -> bytes:
    """The master key in `path`, created with mode 0600 if there is no file. Raises WrongMasterKey for other content,
    and for a file that this user may not read or make.

    If several processes create it at once, one of them succeeds and all return its key.
    """
    try:
        return _read_master_key(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (PermissionError, IsADirectoryError) as error:
        raise WrongMasterKey(
            f"the master key in {path} cannot be read: {error.strerror}",
            hint="let this be a file that the daemon's user may read, or set signing.master_key",
        ) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_master_key(path)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR}:
            raise OSError(error.errno, error.strerror, str(path)) from error  # a write that fails names no file
        raise WrongMasterKey(
            f"no master key can be made in {path}: {error.strerror}",
            hint="set database.data_dir to a directory that the daemon's user may write to, or set signing.master_key",
        ) from error
    return _read_master_key(path)


def _make_master_key(path: Path) -> None:
    """Makes the file complete or not at all, unless another process does, and returns when it is on disk.

    A disk that is full, or a process that is killed, would else leave a file without a key, which nobody replaces. What
    root makes in a directory of the daemon's user belongs to them, or the daemon could not read it.
    """
    directory = path.parent.stat()
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)) + b"\n")
            file.flush()
            if os.geteuid() == 0 and directory.st_uid != 0:
                os.fchown(file.fileno(), directory.st_uid, directory.st_gid)
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_master_key(path: Path) -> bytes:
    deadline = time.monotonic() + _WRITING_SECONDS
    while not (text := path.read_bytes().strip()) and time.monotonic() < deadline:
        time.sleep(0.01)  # somebody has created the file and is about to write the key
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != MASTER_KEY_BYTES:
        raise WrongMasterKey(f"{path} does not hold a master key (base64 of {MASTER_KEY_BYTES} bytes)")
    return key


class _Cache(Generic[_Secret]):
    """Opened secrets by id. `age` forgets what was not asked for since the last but one `age`.

    Two generations instead of a time for each secret: on the hot path a hit costs what it costs in a dict.
    """

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self._young: dict[str, _Secret] = {}
        self._old: dict[str, _Secret] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __getitem__(self, item: str) -> _Secret:
        try:
            return self._young[item]
        except KeyError:
            secret = self._young[item] = self._old.pop(item)
            return secret

    def __setitem__(self, item: str, secret: _Secret) -> None:
        self._young[item] = secret
        self._old.pop(item, None)

    def get(self, item: str) -> _Secret | None:
        try:
            return self[item]
        except KeyError:
            return None

    def age(self) -> None:
        self._old, self._young = self._young, {}


class Keychain:
    """A cache of opened secrets by id. An id never stands for another secret, so no entry becomes stale.

    `age` is called from time to time, and what was not used between two of these calls is forgotten: of routes that are
    idle or deleted nothing stays.
    """

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._keys: _Cache[SigningKey] = _Cache()
        self._headers: _Cache[dict[str, str]] = _Cache()
        # Are called when secrets may have been forgotten.
        self.on_aged: list[Callable[[], None]] = []

    @property
    def vault(self) -> Vault:
        """What the secrets are sealed under, for a caller that looks at all that are stored."""
        return self._vault

    @property
    def log_macs(self) -> LogMacs:
        """What makes the MACs of the log in this database. Known once the vault was checked."""
        return self._vault.log_macs

    @property
    def seal_keys(self) -> tuple[SealKey, ...]:
        """The keys that sign seals and lifecycle events, of which the first does."""
        return self._vault.seal_keys

    @property
    def macs(self) -> CredentialMacs:
        """What makes and checks the MACs of tokens, sessions and login links."""
        return self._vault.macs

    @property
    def master_key_id(self) -> str:
        """The id of the master key that seals, a hash of the key."""
        return self._vault.id

    def sign_lifecycle(self, pos: int, event_hash: bytes) -> bytes:
        """The signature of an event of the route log, by which it is known to be ours."""
        return self.seal_keys[0].sign(lifecycle_text(pos, event_hash))

    def age(self) -> None:
        """Forgets what was not used since the last call but one."""
        self._keys.age()
        self._headers.age()
        for notify in self.on_aged:
            notify()

    def cached_keys(self, route: Route, now: datetime) -> tuple[SigningKey, ...] | None:
        """The cached keys to sign with now, newest first; None if `load` must fetch them first."""
        try:
            return tuple([self._keys[key.id] for key in route.keys_at(now)])
        except KeyError:
            return None

    def cached_headers(self, route: Route) -> dict[str, str] | None:
        """The cached custom headers of a route; None if `load` must fetch them first."""
        return {} if route.config.headers_id is None else self._headers.get(route.config.headers_id)

    async def load(self, route: Route, key_ids: Sequence[str] | None = None) -> None:
        """Fetches, opens and caches secrets of a route: the keys of these ids, or else those that it has, and its
        custom headers. Raises StoreUnavailable or WrongMasterKey.
        """
        key_ids = [key.id for key in route.keys] if key_ids is None else key_ids
        if key_ids:
            for key_id, opened in (await self._opened(route, Table.KEYS, key_ids)).items():
                self._keys[key_id] = SigningKey(opened.decode())
        if route.config.headers_id is not None:
            for headers_id, opened in (await self._opened(route, Table.HEADERS, [route.config.headers_id])).items():
                self._headers[headers_id] = orjson.loads(opened)

    async def secrets_of(
        self, route: Route, key_ids: Sequence[str]
    ) -> tuple[tuple[SigningKey, ...], dict[str, str]] | None:
        """The keys of these ids, and the custom headers of this version of a route; None if a secret is gone."""
        if None in (*map(self._keys.get, key_ids), self.cached_headers(route)):
            await self.load(route, key_ids)
        keys, headers = [self._keys.get(key_id) for key_id in key_ids], self.cached_headers(route)
        present = tuple(key for key in keys if key is not None)
        return None if headers is None or len(present) < len(keys) else (present, headers)

    async def _opened(self, route: Route, table: Table, items: Sequence[str]) -> dict[str, bytes]:
        sealed = await sealed_secrets.of_route(self._database, table, route.id, items)
        return {
            item: self._vault.open(value, secret_context(route.tenant, route.id, item))
            for item, value in sealed.items()
        }

    async def reveal(self, route: Route) -> str:
        """The text of the newest key, to show it to the merchant."""
        key_id = route.keys[0].id
        return (await self._opened(route, Table.KEYS, [key_id]))[key_id].decode()

    def seal_key(self, tenant: str, route_id: UUID, key_id: str, text: str) -> bytes:
        """A key's text, sealed for this tenant, route and id."""
        return self._vault.seal(text.encode(), secret_context(tenant, route_id, key_id))

    def seal_headers(self, tenant: str, route_id: UUID, headers_id: str, headers: dict[str, str]) -> bytes:
        """Header values as JSON, sealed for this tenant, route and id."""
        return self._vault.seal(orjson.dumps(headers), secret_context(tenant, route_id, headers_id))


def secret_context(tenant: str, route_id: UUID, item: str) -> bytes:
    """The associated data of a route's secret, to which its ciphertext is bound."""
    return f"{tenant}\n{route_id}\n{item}".encode()
