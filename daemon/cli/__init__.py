"""The command line: one module per group of commands.

A command parses its options, calls `daemon.commands`, `daemon.audit` or a query, and prints the result. The group in
`main` imports a command's module only when that command is used, so that `hookledger --help` answers at once. Keep
`main` light.
"""
