"""Several processes of one daemon: a parent that watches, and workers that do everything else.

The one thing to know: the parent delivers nothing and serves nothing. It checks what can be checked, starts the
embedded PostgreSQL if none is configured, binds the sockets that all workers accept from, and starts a worker anew that
died.

A worker is a program of its own and no fork: nothing of a running loop is inherited. It gets its orders - number,
configuration, file numbers of the sockets - on its standard input, and answers with one line when it is ready. The
input stays open: it is the lifeline. `stop` on it, or its end if the parent died, asks the worker to finish what is
under way. So a worker is asked once, whatever signals reach it and however often; what it does not finish in time is
killed by the parent. Workers have sessions of their own, so that Ctrl-C in a terminal reaches the parent alone.

Whoever uses the embedded PostgreSQL holds a lock on a file (eventstore.embedded). Workers inherit the parent's: if it
dies, no command that comes and goes stops the server while they finish.
"""
