"""The errors of an embedded server that cannot be used, each with a hint."""

import errno
import pwd
from pathlib import Path

from eventstore.postgres.errors import EmbeddedMisconfigured, EmbeddedUnavailable

_MORE_FILES = "allow more: ulimit -n in the shell, LimitNOFILE in the unit of systemd"


def wrong_owner(path: Path, user: str) -> EmbeddedUnavailable:
    """What `user`, who is to use it, may not use. They may even be its owner, without the permissions."""
    try:
        owner = pwd.getpwuid(path.stat().st_uid).pw_name
    except (KeyError, OSError):
        owner = "another user"
    if owner == user:
        return EmbeddedMisconfigured(
            f"{path} belongs to {owner}, and its permissions keep {owner} from using it", hint=f"chmod u+rwx {path}"
        )
    return EmbeddedMisconfigured(
        f"{path} belongs to {owner}, and {user} cannot use it",
        hint=f"give it to {user} (chown -R {user} {path}), or set database.data_dir to a directory of {user}",
    )


def from_os_error(error: OSError, data_dir: Path) -> EmbeddedUnavailable:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return _no_space(data_dir)
        case errno.EMFILE | errno.ENFILE:
            return EmbeddedUnavailable(
                f"the embedded PostgreSQL in {data_dir} cannot be reached: {error.strerror}", hint=_MORE_FILES
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return EmbeddedMisconfigured(
                f"{error.filename or data_dir}: {error.strerror}",
                hint="run as the user that it belongs to, or set database.data_dir to a directory you may write to",
            )
        case _:
            return EmbeddedUnavailable(
                f"the embedded PostgreSQL cannot be started in {data_dir}: {error}",
                hint="set database.data_dir to another directory, or database.url to a PostgreSQL server",
            )


def from_output(output: str, what: str, *, cluster: Path, log: Path) -> EmbeddedUnavailable:
    """The error for the output of a PostgreSQL program that failed; `what` is the beginning of the message."""
    if "No space left on device" in output:
        return _no_space(cluster.parent)
    messages = [line.strip() for line in output.splitlines() if "FATAL:" in line or "error:" in line]
    lines = messages or output.strip().splitlines() or ["it said nothing"]
    if "insufficient file descriptors" in lines[-1]:
        return EmbeddedUnavailable(f"{what}: too few files may be open", hint=_MORE_FILES)
    if "has invalid permissions" in lines[-1]:
        return EmbeddedMisconfigured(f"{cluster} may be read by other users", hint=f"chmod -R go= {cluster}")
    if "postmaster.pid" in lines[-1]:
        return EmbeddedUnavailable(
            f"a PostgreSQL that hookledger did not start uses {cluster}", hint="stop it, then try again"
        )
    return EmbeddedUnavailable(f"{what}: {lines[-1]}", hint=f"see {log}" if log.exists() else "see above")


def _no_space(data_dir: Path) -> EmbeddedUnavailable:
    return EmbeddedUnavailable(
        f"no space left on the disk of {data_dir}",
        hint="free some space (a new database needs 100 MB), or set database.data_dir to a directory on another disk",
    )
