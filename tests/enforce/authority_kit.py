"""An authority of the world outside, whom a caller trusts by SSL_CERT_FILE, and the certificates that it gives to servers."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class OuterAuthority:
    """``pem``: its own certificate."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"a test {os.urandom(4).hex()}")])
        made = self._build(self.name, self.key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        usage = x509.KeyUsage(*(name in ("key_cert_sign", "crl_sign") for name in _USES))
        self.own = made.add_extension(usage, critical=True).sign(self.key, hashes.SHA256())
        self.pem = self.own.public_bytes(serialization.Encoding.PEM).decode()

    def _build(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, old: bool = False) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC) - dt.timedelta(days=30 if old else 0)
        build = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key.public_key())
        build = build.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
        build = build.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return build.not_valid_after(now + dt.timedelta(days=1))

    def write(self, path: Path, *names: str, old: bool = False) -> Path:
        """A certificate for these names and its key, in a file for ``load_cert_chain``."""
        key = ec.generate_private_key(ec.SECP256R1())
        build = self._build(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server")]), key, old=old)
        build = build.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        build = build.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        made = build.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        path.write_bytes(made + key.private_bytes(*form))
        return path

    def server(self, path: Path, *names: str, old: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.write(path, *names, old=old))
        return context


_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
    "encipher_only", "decipher_only",
)  # fmt: skip
