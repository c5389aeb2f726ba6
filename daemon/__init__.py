"""Hookledger: a webhook delivery daemon whose memory is an event log.

The floors, from the top: cli, app, web, pipeline, commands and audit, config, core; below them all, the package
`eventstore`. Imports go down only; pyproject.toml holds the contract.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("hookledger")
except PackageNotFoundError:  # a source tree on the path that nobody has installed
    __version__ = "0+unknown"
