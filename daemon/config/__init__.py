"""The configuration: a TOML file, the environment over it, the command line over both; checked whole, all at once.

The one thing to know: nothing here looks at the process's environment, clock or terminal. They come as arguments, so
each rule is a unit test; only the files that are named get read. pydantic checks single values (`values`, `sections`).
Where a value comes from (`sources`), and what values mean together (`loading`), is checked by us: a person who made
three mistakes wants three answers, each naming the key or variable it stands in. (pydantic-settings reads os.environ by
itself and ends at the first unreadable source, so it is not used.)
"""

from daemon.config.loading import ConfigError, load
from daemon.config.masking import masked
from daemon.config.sections import Config, LogFormat, LogLevel
from daemon.config.values import MASTER_KEY_BYTES, ListenAddress, Secret

__all__ = [
    "MASTER_KEY_BYTES",
    "Config",
    "ConfigError",
    "ListenAddress",
    "LogFormat",
    "LogLevel",
    "Secret",
    "load",
    "masked",
]
