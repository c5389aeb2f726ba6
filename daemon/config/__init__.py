"""The configuration, from a TOML file, the environment and the command line; each overrides the one before.

The one thing to know: nothing here reads the process's environment, clock or terminal. They come in as arguments, so
every rule can be unit-tested; only the files that are named get read. pydantic checks single values (`values`,
`sections`). Our own code reads all three (`given`) and checks values against each other (`loading`), so that three
mistakes give three messages, each with its key or variable. pydantic-settings is not used, because it reads os.environ
itself and stops at the first file that it cannot read.
"""

from daemon.config.changes import changed_keys, check_change
from daemon.config.loading import ConfigError, load
from daemon.config.masking import masked
from daemon.config.sections import Config, LogFormat, LogLevel
from daemon.config.values import MASTER_KEY_BYTES, ListenAddress, Secret, host_and_port

__all__ = [
    "MASTER_KEY_BYTES",
    "Config",
    "ConfigError",
    "ListenAddress",
    "LogFormat",
    "LogLevel",
    "Secret",
    "changed_keys",
    "check_change",
    "host_and_port",
    "load",
    "masked",
]
