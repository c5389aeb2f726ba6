"""Creates the cluster on disk once, complete or not at all."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from eventstore.embedded.paths import MAJOR_VERSION, ClusterPaths
from eventstore.embedded.refusals import from_output, wrong_owner
from eventstore.postgres.errors import EmbeddedMisconfigured

# Nothing else is inherited: this process's environment may hold secrets, and PG* variables would configure the server.
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C"}

# Written once, when the cluster is created; afterwards postgresql.conf belongs to the operator. fsync and
# synchronous_commit keep their default, on. The log level excludes errors of clients: the daemon reports those, and
# they may quote payloads.
_SETTINGS: Final = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}


def ensure_cluster(paths: ClusterPaths) -> None:
    try:
        major = (paths.cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        _make_cluster(paths)
        return
    if major != MAJOR_VERSION:
        raise EmbeddedMisconfigured(
            f"{paths.cluster} was made by PostgreSQL {major}, the embedded server is {MAJOR_VERSION}",
            hint="dump it with the older release and load it into a new data directory (database.data_dir)",
        )
    if paths.cluster.stat().st_uid != paths.account.uid:
        raise wrong_owner(paths.cluster, paths.account.name)


def _make_cluster(paths: ClusterPaths) -> None:
    unfinished = paths.cluster.with_name("postgres.new")
    if unfinished.exists():  # left by a start that was killed
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    if paths.account.is_system_user:
        os.chown(unfinished, paths.account.uid, paths.account.gid)
    command = [str(paths.binaries / "initdb"), "--pgdata", str(unfinished), "--username=postgres", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += [f"--set={name}={setting}" for name, setting in _SETTINGS.items()]
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=ENVIRONMENT,
        start_new_session=True,
        **paths.account.credentials,
    )
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        output = done.stdout.decode(errors="replace")
        raise from_output(output, "making the embedded database failed", cluster=paths.cluster, log=paths.log)
    unfinished.rename(paths.cluster)
    _sync_directory(paths.data_dir)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
