"""TLS to receivers: what their certificates and versions must be, and what failures are called.

The one thing to know: a handshake runs in the event loop, so what a receiver may choose in it has to be cheap.
"""

from __future__ import annotations

import ctypes
import platform
import ssl
import sys
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from daemon.core.delivery.answer import ErrorName, Failure
from daemon.core.delivery.tls_fault import fault_of

MAX_HANDSHAKE_MESSAGES = 64
"""Messages of one connection. A handshake takes ten at most, and a server sends a few tickets."""
MAX_CERTIFICATE_BYTES = 32 * 1024
"""A chain with its leaf; most have 3 to 6 KiB. OpenSSL takes 100 KiB: 250 certificates, which take 47 ms to read."""
MAX_RECORDS = 2048
"""Records of one answer. Each takes a microsecond and a half, and may carry a single byte."""
_HANDSHAKE = 22
_RECORD_HEAD = 256  # SSL3_RT_HEADER: what OpenSSL tells before each record
_FINITE_FIELDS = ("kx-dhe", "kx-dhe-psk")
_CURVES = "X25519:P-256:X448:P-521:P-384"
# As OpenSSL's ssl.h has SSL_CTRL_SET_GROUPS_LIST and SSL_CTRL_SET_MAX_CERT_LIST.
_SET_GROUPS_LIST, _SET_MAX_CERTIFICATES = 92, 51
_LAST_KNOWN = (3, 14)


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
    _offer_no_finite_fields(context)
    _control(context, _SET_MAX_CERTIFICATES, MAX_CERTIFICATE_BYTES, None)
    _count_what_comes(context)
    if extra_ca_file is not None:
        context.load_verify_locations(extra_ca_file)
    return context


def _offer_no_finite_fields(context: ssl.SSLContext) -> None:
    """Leaves Diffie-Hellman to elliptic curves, as browsers do. Over finite fields the receiver chooses how long it
    takes: in TLS 1.2 a modulus of 10,000 bits, which took 0.9 s of the event loop for each connection; in TLS 1.3
    ffdhe8192, which took 0.15 s and no valid certificate. Over curves a handshake takes one to three milliseconds.
    """
    context.set_ciphers(":".join(each["name"] for each in context.get_ciphers() if each["kea"] not in _FINITE_FIELDS))
    if ssl.OPENSSL_VERSION_INFO[:2] >= (3, 5):
        return  # of itself it offers ffdhe3072 at most: 4 ms
    set_groups = getattr(context, "set_groups", None)  # older ones of Python can set one group only
    if set_groups is None:
        _control(context, _SET_GROUPS_LIST, 0, _CURVES.encode())
        return
    with suppress(ssl.SSLError):  # a library that does not know one of the curves
        set_groups(_CURVES)


def _control(context: ssl.SSLContext, command: int, number: int, text: bytes | None) -> None:
    """Tells OpenSSL what Python has no function for, where the interpreter uses a library of OpenSSL.

    The first member of CPython's object is OpenSSL's context, in the releases up to _LAST_KNOWN. Where that is not
    certain nothing is told, and tests of what it bounds fail.
    """
    file = getattr(import_module("_ssl"), "__file__", None)
    if file is None or platform.python_implementation() != "CPython" or sys.version_info[:2] > _LAST_KNOWN:
        return
    control = getattr(ctypes.CDLL(file), "SSL_CTX_ctrl", None)
    if control is not None:
        control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
        control(ctypes.c_void_p.from_address(id(context) + object.__basicsize__), command, number, text)


def _count_what_comes(context: ssl.SSLContext) -> None:
    """Counts the records that a connection's SSLObject reads, in its `records`, and calls its `on_flood` once its
    receiver has sent too many handshake messages: new keys, tickets.

    Both cost us most of the work and no byte of an answer's budget: in 5 s one connection took 2.6 s of CPU, and the
    event loop stood still for 0.4 s. Counting takes a request over TLS 1 µs. The hook is not public; a test holds it.
    It is that of the base class, since SSLContext's own makes enums of all that it passes on, for each record. What it
    raises does not end the reading, so the connection ends itself, in the next turn of the event loop.
    """

    def on_message(conn: ssl.SSLObject, direction: str, _version: int, content_type: int, *_more: object) -> None:
        if direction != "read":
            return
        counted: Any = conn
        if content_type == _RECORD_HEAD:
            counted.records = getattr(conn, "records", 0) + 1
        elif content_type == _HANDSHAKE:
            counted.handshake_messages = count = getattr(conn, "handshake_messages", 0) + 1
            if count > MAX_HANDSHAKE_MESSAGES and (on_flood := vars(conn).pop("on_flood", None)):
                on_flood()

    hook: Any = vars(ssl.SSLContext.__mro__[1]).get("_msg_callback")
    if hook is not None:
        hook.__set__(context, on_message)


def _version(path: Path) -> tuple[int, int, int]:
    """What is another one after a file was changed or replaced. Raises OSError if it is not there."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def tls_failure(error: Exception) -> Failure:
    """The failure of a handshake, with what the merchant can mend if that is known."""
    fault = fault_of(getattr(error, "verify_code", None), getattr(error, "reason", None))
    return Failure(error=ErrorName.TLS_ERROR, detail="" if fault is None else fault.detail)
