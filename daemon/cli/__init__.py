"""The command line: one module per group of commands.

A command parses, calls `daemon.commands`, `daemon.audit` or a query, and presents. The group in `main` imports a
command's module only when that command is used, so that `hookledger --help` answers at once: keep `main` light.
"""
