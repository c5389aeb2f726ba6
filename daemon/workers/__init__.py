"""Several processes of one daemon: a parent that supervises, and workers that do everything else.

The one thing to know: the parent delivers nothing and serves nothing. It checks configuration, schema and master key,
starts the embedded PostgreSQL if no database is configured, binds the sockets from which all workers accept, and
restarts a worker that died.

A worker is a new program and not a fork: it inherits nothing of a running loop. It gets its orders (slot number,
configuration, file descriptors of the sockets) on its standard input, and writes one line when it is ready. Its
standard input stays open as the control pipe. On this pipe it is told another configuration at a reload, and asked to
finish requests in flight at a stop; the end of the pipe, which means that the parent died, asks for the same. A worker
is asked once, however many signals reach it, and the parent kills it if it does not finish in time. Each worker has a
session of its own, so that Ctrl-C in a terminal reaches only the parent.

Every process that uses the embedded PostgreSQL holds a lock on a file (eventstore.embedded). Workers inherit the lock
of the parent: if the parent dies, no other command stops the server while they finish.
"""
