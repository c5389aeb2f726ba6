"""`python -m daemon` is the same as `hookledger`, for when the script is not on the path."""

from daemon.cli.main import entry

if __name__ == "__main__":
    entry()
