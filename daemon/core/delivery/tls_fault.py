"""What is wrong with a receiver's TLS, told to the merchant who can mend it.

Pure. OpenSSL says it by the number of a verification error or by the name of a reason. The texts here are recorded and
shown; OpenSSL's own are not, since they may name addresses and files.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType


class TlsFault(Enum):
    """A cause, and what to do about it. Both are parts of one sentence."""

    NO_CHAIN = (
        "its certificate comes without its chain, or from an authority that is not trusted here",
        "configure the server to send the whole chain, with the intermediate certificates",
    )
    SELF_SIGNED = (
        "its certificate is self-signed, or from a private authority",
        "install one from a public certificate authority",
    )
    WRONG_NAME = (
        "its certificate is for another name",
        "install one that covers the host in the target URL, or correct the host",
    )
    EXPIRED = ("its certificate has expired", "renew it and reload the server")
    NOT_YET_VALID = (
        "its certificate is not valid yet",
        "check the clock of the machine that issued it, or install a valid one",
    )
    WEAK_KEY = (
        "a key or signature in its certificate chain is too weak",
        "install a certificate with RSA of 2,048 bits or more, or with ECDSA, signed with SHA-256",
    )
    LONG_CHAIN = (
        "it sends more than 32 KiB of certificates",
        "configure the server to send its certificate and the intermediate ones alone",
    )
    OLD_VERSION = ("the server offers no TLS newer than 1.1", "enable TLS 1.2 or 1.3 on it")
    NOT_TLS = (
        "the port does not speak TLS, it answers in plain text",
        "enable https on this port, or correct the port in the target URL",
    )
    REFUSED = (
        "the server refused the handshake",
        "let it accept TLS 1.2 or 1.3 with usual ciphers, for this host, and ask for no client certificate",
    )

    @property
    def cause(self) -> str:
        return self.value[0]

    @property
    def step(self) -> str:
        """What to do, in the imperative."""
        return self.value[1]

    @property
    def detail(self) -> str:
        """Cause and step, as they are recorded behind the error name."""
        return f"{self.cause}: {self.step}"


TLS_FAULTS = MappingProxyType({fault.detail: fault for fault in TlsFault})
"""By what is recorded of them."""


def fault_of(verify_code: int | None, reason: str | None) -> TlsFault | None:
    """The fault by OpenSSL's verification error (X509_V_ERR_…) or, without one, by the reason of the error."""
    if verify_code:
        return _BY_VERIFY_CODE.get(verify_code)
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    return TlsFault.REFUSED if reason is not None and "_ALERT_" in reason else None


_BY_VERIFY_CODE = {
    9: TlsFault.NOT_YET_VALID,
    10: TlsFault.EXPIRED,
    18: TlsFault.SELF_SIGNED,
    19: TlsFault.SELF_SIGNED,
    20: TlsFault.NO_CHAIN,
    21: TlsFault.NO_CHAIN,
    62: TlsFault.WRONG_NAME,
    64: TlsFault.WRONG_NAME,
    66: TlsFault.WEAK_KEY,
    67: TlsFault.WEAK_KEY,
    68: TlsFault.WEAK_KEY,
}
_BY_REASON = {
    "EE_KEY_TOO_SMALL": TlsFault.WEAK_KEY,
    "CA_KEY_TOO_SMALL": TlsFault.WEAK_KEY,
    "CA_MD_TOO_WEAK": TlsFault.WEAK_KEY,
    "DH_KEY_TOO_SMALL": TlsFault.WEAK_KEY,
    "BAD_KEY_SHARE": TlsFault.WEAK_KEY,
    "EXCESSIVE_MESSAGE_SIZE": TlsFault.LONG_CHAIN,
    "UNSUPPORTED_PROTOCOL": TlsFault.OLD_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": TlsFault.OLD_VERSION,
    "WRONG_VERSION_NUMBER": TlsFault.NOT_TLS,
    "HTTP_REQUEST": TlsFault.NOT_TLS,
    "RECORD_LAYER_FAILURE": TlsFault.NOT_TLS,
    "TLSV1_UNRECOGNIZED_NAME": TlsFault.WRONG_NAME,
}
