"""Hookledger: a webhook delivery daemon whose memory is an event log.

The layers, from the top: cli, app, web, pipeline, commands and audit, config, core; below them all, the package
`eventstore`. Imports only go down, which import-linter checks by the contracts in pyproject.toml.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("hookledger")
except PackageNotFoundError:  # a source tree on the path that is not installed
    __version__ = "0+unknown"
