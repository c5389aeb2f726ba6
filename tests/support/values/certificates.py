"""Certificates for tests: an authority, and certificates that it signs."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Issued = tuple[x509.Certificate, PrivateKey]


def issue(
    name: str, *, issuer: Issued | None = None, is_authority: bool | None = None, days_left: int = 1, rsa_bits: int = 0
) -> Issued:
    """A certificate for `name` and its key: an elliptic curve's, or RSA of so many bits. Without an issuer it signs itself."""
    key: PrivateKey = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    is_authority = issuer is None if is_authority is None else is_authority
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days_left))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key())
        builder = builder.add_extension(authority, critical=False)
    return builder.sign(key if issuer is None else issuer[1], hashes.SHA256()), key


def pem(issued: Issued) -> bytes:
    return issued[0].public_bytes(serialization.Encoding.PEM)


def private_pem(issued: Issued) -> bytes:
    """Its key."""
    return issued[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def serving(issued: Issued, folder: Path, *, security_level: int = 2) -> ssl.SSLContext:
    """What a server with this certificate needs. A lower level lets it offer what is too weak for us."""
    file = folder / f"{issued[0].serial_number}.pem"
    file.write_bytes(pem(issued) + private_pem(issued))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_ciphers(f"DEFAULT:@SECLEVEL={security_level}")
    context.load_cert_chain(file)
    return context
