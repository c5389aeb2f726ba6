"""The cluster on disk: made once, complete or not at all."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from eventstore.embedded.paths import MAJOR_VERSION, ClusterPaths
from eventstore.embedded.refusals import not_ours, of_output
from eventstore.postgres.errors import EmbeddedMisconfigured

# Nothing else of our environment: it may hold secrets, and PG* variables would change what runs.
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C"}

# Written once, when the cluster is made: postgresql.conf is the operator's from then on. fsync and synchronous_commit
# keep their default, on. The log level leaves out clients' errors, which the daemon sees and which may quote payloads.
_SETTINGS: Final = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}


def ensure_cluster(place: ClusterPaths) -> None:
    try:
        major = (place.cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        _make_cluster(place)
        return
    if major != MAJOR_VERSION:
        raise EmbeddedMisconfigured(
            f"{place.cluster} was made by PostgreSQL {major}, the embedded server is {MAJOR_VERSION}",
            hint="dump it with the older release and load it into a new data directory (database.data_dir)",
        )
    if place.cluster.stat().st_uid != place.account.uid:
        raise not_ours(place.cluster)


def _make_cluster(place: ClusterPaths) -> None:
    unfinished = place.cluster.with_name("postgres.new")
    if unfinished.exists():  # of a start that was killed
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    if place.account.is_borrowed:
        os.chown(unfinished, place.account.uid, place.account.gid)
    command = [str(place.binaries / "initdb"), "--pgdata", str(unfinished), "--username=postgres", "--auth=trust"]
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
        **place.account.credentials,
    )
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        output = done.stdout.decode(errors="replace")
        raise of_output(output, "making the embedded database failed", cluster=place.cluster, log=place.log)
    unfinished.rename(place.cluster)
    _sync_directory(place.data_dir)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
