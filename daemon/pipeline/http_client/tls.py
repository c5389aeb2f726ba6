"""TLS to receivers: what is demanded of theirs, and what their failures are called."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

from daemon.core.delivery.answer import ErrorName, Failure
from daemon.core.delivery.tls_fault import fault_of


def tls_context(extra_ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; certificate and name are always verified. Raises OSError for an unusable `extra_ca_file`.

    HTTP/1.1 alone is offered: one POST at a time gains nothing from HTTP/2. Authorities that have changed since the
    last time are read anew.
    """
    system = ssl.get_default_verify_paths()
    files = [*map(Path, filter(None, (system.cafile, system.capath))), *filter(None, (extra_ca_file,))]
    return _context(extra_ca_file, *map(_version, files))


@lru_cache(8)  # to load the system's certificates takes 40 to 70 ms
def _context(extra_ca_file: Path | None, *_versions: object) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Python 3.13 also demands what RFC 5280 wants of a certificate, and no other client does: a receiver must not stop
    # with a new Python.
    context.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # most of its work is ours, and it costs no byte of the budget
    context.set_alpn_protocols(["http/1.1"])
    if extra_ca_file is not None:
        context.load_verify_locations(extra_ca_file)
    return context


def _version(path: Path) -> tuple[int, int, int]:
    """What is another one after a file was changed or replaced. Raises OSError if it is not there."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def tls_failure(error: Exception) -> Failure:
    """The failure of a handshake, with what the merchant can mend if that is known."""
    fault = fault_of(getattr(error, "verify_code", None), getattr(error, "reason", None))
    return Failure(error=ErrorName.TLS_ERROR, detail="" if fault is None else fault.detail)
