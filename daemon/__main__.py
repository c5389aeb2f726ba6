"""`python -m daemon` is `hookledger`: the same entry, for when the script is not on the path."""

from daemon.cli.main import entry

if __name__ == "__main__":
    entry()
