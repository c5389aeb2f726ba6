"""Secrets at rest: verification keys and header values, sealed with AES-256-GCM under a master key.

A sealed value is bound to its place - tenant, route, id - as associated data, so that rows cannot be swapped. The first
master key of the list seals, all of them open: that is how a master key is exchanged. `Keychain` remembers what it has
opened, because the hot path signs with the same few keys all day.
"""

from __future__ import annotations

import base64
import os
import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import eventstore.keys
from daemon.config import MASTER_KEY_BYTES
from daemon.core.route import Route
from daemon.core.signing import SigningKey, fingerprint, format_key
from eventstore.connect import Database

_NONCE_BYTES = 12
_WRITING_SECONDS = 2.0
_FORMAT = b"\x01"
_CHECK_TEXT = b"hookledger"
_CHECK_PLACE = b"master_key_check"


class WrongMasterKey(Exception):
    """No master key at hand opens what is stored, or the file that should hold one does not."""


class Vault:
    """Seals and opens under a list of master keys of 32 bytes each."""

    def __init__(self, master_keys: Sequence[bytes]) -> None:
        if not master_keys or any(len(key) != MASTER_KEY_BYTES for key in master_keys):
            raise ValueError("a master key has 32 bytes, and at least one is needed")
        self._ciphers = [AESGCM(key) for key in master_keys]

    def seal(self, plain: bytes, place: bytes) -> bytes:
        """Ciphertext of `plain`, good at `place` only."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._ciphers[0].encrypt(nonce, plain, place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """The plaintext. Raises WrongMasterKey if no key fits, or the value was sealed for another place."""
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        is_ours = sealed[:1] == _FORMAT and len(nonce) == _NONCE_BYTES
        for cipher in self._ciphers if is_ours else ():
            try:
                return cipher.decrypt(nonce, ciphertext, place)
            except InvalidTag:
                continue
        raise WrongMasterKey("a stored secret cannot be opened with the configured master key")

    async def check(self, database: Database) -> None:
        """Raises WrongMasterKey unless this database's secrets were sealed under one of our keys."""
        ours = base64.b64encode(self.seal(_CHECK_TEXT, _CHECK_PLACE)).decode()
        stored = await eventstore.keys.master_key_check(database, ours)
        try:
            sealed = base64.b64decode(stored, validate=True)
        except ValueError:
            sealed = b""
        self.open(sealed, _CHECK_PLACE)


def new_key() -> tuple[str, str, str]:
    """A fresh verification key: its id, its text `whsec_…`, its fingerprint."""
    text = format_key(secrets.token_bytes(32))
    return f"key_{secrets.token_hex(6)}", text, fingerprint(text)


def master_key_file(path: Path) -> bytes:
    """The master key in `path`, made there with mode 0600 if there is none. Raises WrongMasterKey for any other file.

    Of several processes that make it at once one wins, and all return its key.
    """
    try:
        return _read_master_key(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_master_key(path)
    key = secrets.token_bytes(MASTER_KEY_BYTES)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(key) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def _read_master_key(path: Path) -> bytes:
    deadline = time.monotonic() + _WRITING_SECONDS
    while not (text := path.read_bytes().strip()) and time.monotonic() < deadline:
        time.sleep(0.01)  # whoever has made the file is about to write it
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != MASTER_KEY_BYTES:
        raise WrongMasterKey(f"{path} does not hold a master key (base64 of {MASTER_KEY_BYTES} bytes)")
    return key


class Keychain:
    """The opened secrets of routes, by id; an id always stands for the same secret, so nothing here goes stale."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._keys: dict[str, SigningKey] = {}
        self._headers: dict[str, dict[str, str]] = {}

    def keys_at_hand(self, route: Route, now: datetime) -> tuple[SigningKey, ...] | None:
        """The keys to sign with now, newest first; None if `load` must fetch them first."""
        try:
            return tuple([self._keys[key.id] for key in route.keys_at(now)])
        except KeyError:
            return None

    def headers_at_hand(self, route: Route) -> dict[str, str] | None:
        """The route's custom headers; None if `load` must fetch them first."""
        return {} if route.config.headers_id is None else self._headers.get(route.config.headers_id)

    async def load(self, route: Route) -> None:
        """Fetches and opens the secrets of a route. Raises StoreUnavailable or WrongMasterKey."""
        for (route_id, key_id), sealed in (await eventstore.keys.keys(self._database, [route.id])).items():
            text = self._vault.open(sealed, secret_place(route.tenant, route_id, key_id)).decode()
            self._keys[key_id] = SigningKey(text)
        if route.config.headers_id is not None:
            found = await eventstore.keys.headers(self._database, [route.id])
            for (route_id, headers_id), sealed in found.items():
                opened = self._vault.open(sealed, secret_place(route.tenant, route_id, headers_id))
                self._headers[headers_id] = orjson.loads(opened)

    async def reveal(self, route: Route) -> str:
        """The text of the newest key, for the merchant who asks for it."""
        sealed = (await eventstore.keys.keys(self._database, [route.id]))[route.id, route.keys[0].id]
        return self._vault.open(sealed, secret_place(route.tenant, route.id, route.keys[0].id)).decode()

    def seal_key(self, tenant: str, route_id: UUID, key_id: str, text: str) -> bytes:
        """A key's text, sealed for its place."""
        return self._vault.seal(text.encode(), secret_place(tenant, route_id, key_id))

    def seal_headers(self, tenant: str, route_id: UUID, headers_id: str, headers: dict[str, str]) -> bytes:
        """Header values, sealed for their place."""
        return self._vault.seal(orjson.dumps(headers), secret_place(tenant, route_id, headers_id))


def secret_place(tenant: str, route_id: UUID, item: str) -> bytes:
    """The associated data of a route's secret."""
    return f"{tenant}\n{route_id}\n{item}".encode()
