"""What is the same for every webhook of this installation, by its configuration."""

from __future__ import annotations

from daemon import __version__
from daemon.config import Config
from daemon.core.request import Dialect


def dialect(config: Config) -> Dialect:
    return Dialect(
        signing_header=config.signing.header,
        standard_webhooks=config.signing.standard_webhooks,
        user_agent=f"Hookledger/{__version__}",
        max_body_bytes=config.events.max_bytes,
    )
