"""Whom the server runs as: PostgreSQL refuses root and users without a name."""

import os
import pwd
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypedDict

from eventstore.errors import EmbeddedMisconfigured

_SYSTEM_USER: Final = "hookledger"


class Credentials(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Root's server runs as another user (borrowed), everybody else's as themselves.

    Files are given away only to a borrowed one: a hardened service may not call chown, not even for its own files.
    """

    uid: int
    gid: int
    is_borrowed: bool

    @property
    def credentials(self) -> Credentials:
        """Arguments for subprocess; an ordinary user may not even name its own."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_borrowed else {}


def find_account() -> Account:
    uid = os.geteuid()
    if uid == 0:
        entry = _system_user()
        return Account(uid=entry.pw_uid, gid=entry.pw_gid, is_borrowed=True)
    try:
        pwd.getpwuid(uid)
    except KeyError as error:
        raise EmbeddedMisconfigured(
            f"PostgreSQL needs a user name, and user id {uid} has none",
            hint="run as a user listed in /etc/passwd, or set database.url to a PostgreSQL server",
        ) from error
    return Account(uid=uid, gid=os.getegid(), is_borrowed=False)


def _system_user() -> pwd.struct_passwd:
    with suppress(KeyError):
        return pwd.getpwnam(_SYSTEM_USER)
    _make_system_user()
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError as error:
        raise EmbeddedMisconfigured(
            f"PostgreSQL does not run as root, and the system user {_SYSTEM_USER!r} could not be made",
            hint="run hookledger as an ordinary user, or set database.url to a PostgreSQL server",
        ) from error


def _make_system_user() -> None:
    """Another process may be making it too: what counts is whether it exists afterwards."""
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    with suppress(OSError):
        subprocess.run(
            [*command, "--shell", "/usr/sbin/nologin", _SYSTEM_USER],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
