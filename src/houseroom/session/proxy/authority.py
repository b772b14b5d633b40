"""A certificate authority of one sandbox's own, and the certificates that connections from inside are answered with.

The authority's key exists in the memory of this process alone, from the sandbox's start to its end; that of its certificate knows
the sandbox and nobody else. It may certify the names that rules on requests are about, and no others (RFC 5280 §4.2.1.10).

The only module that imports ``cryptography``, the extra ``inspect``: the interpreter's own ``ssl`` speaks TLS and can make no certificate.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import datetime as dt
import ipaddress
import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from houseroom.policy.hosts import Address, Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from houseroom.policy.destinations import Destination

PROTOCOLS: Final = ("http/1.1",)  # what is spoken inside TLS; who would rather speak HTTP/2 falls back
_AUTHORITY_LIVES, _NAME_LIVES, _RENEWED = dt.timedelta(days=30), dt.timedelta(days=2), dt.timedelta(days=1)
_BEFORE = dt.timedelta(hours=1)  # clocks inside may be wrong on purpose
_MOST_NAMES = 1000  # certificates that are kept: a pattern stands for any number of names
_MOST_CONSTRAINTS = 200  # names in the authority's certificate; of more rules it says nothing, and may certify anything
_EVERY_ADDRESS = ("0.0.0.0/0", "::/0")


class Authority:
    """One sandbox's. ``certificate`` is what the sandbox is to trust, in PEM."""

    def __init__(self, named: Iterable[Destination]):
        self.key, self.leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.contexts: dict[str | Address, tuple[dt.datetime, ssl.SSLContext]] = {}
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"houseroom, of one sandbox, {os.urandom(4).hex()}")])
        build = _builder(name, self.key.public_key(), _AUTHORITY_LIVES).issuer_name(name)
        build = build.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        build = build.add_extension(_usage(signs=True), critical=True)
        constraints = _constraints(tuple(named))
        if constraints is not None:
            build = build.add_extension(constraints, critical=True)
        self.own = build.sign(self.key, hashes.SHA256())
        self.certificate = self.own.public_bytes(serialization.Encoding.PEM)

    def context(self, host: str | Address) -> ssl.SSLContext:
        """What a connection from inside to this host is answered with."""
        now = dt.datetime.now(dt.UTC)
        made = self.contexts.get(host)
        if made is None or now - made[0] > _RENEWED:
            while len(self.contexts) >= _MOST_NAMES:
                del self.contexts[next(iter(self.contexts))]
            made = self.contexts[host] = now, self._context(host)
        return made[1]

    def _context(self, host: str | Address) -> ssl.SSLContext:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(host)[:64])])
        known = x509.IPAddress(ipaddress.ip_address(host.packed)) if isinstance(host, Address) else x509.DNSName(host)
        build = _builder(name, self.leaf_key.public_key(), _NAME_LIVES).issuer_name(self.own.subject)
        build = build.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        build = build.add_extension(_usage(signs=False), critical=True)
        build = build.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        build = build.add_extension(x509.SubjectAlternativeName([known]), critical=False)
        made = build.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        certificate = made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        key = self.leaf_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _settle(context)
        _load(context, certificate + key)
        return context


def outward(verifying: str) -> ssl.SSLContext:
    """How servers are spoken to: verified by their name and by these authorities, in PEM. Raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which verifies; create_default_context would write keys where SSLKEYLOGFILE says
    context.load_verify_locations(cadata=verifying)
    _settle(context)
    return context


def _settle(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(PROTOCOLS))


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """``ssl`` takes certificates from files only: one in memory, without a name, that is gone afterwards (memfd_create(2))."""
    fd = os.memfd_create("certificate")
    try:
        os.write(fd, pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _builder(name: x509.Name, key: ec.EllipticCurvePublicKey, lives: dt.timedelta) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    build = x509.CertificateBuilder().subject_name(name).public_key(key).serial_number(x509.random_serial_number())
    build = build.not_valid_before(now - _BEFORE).not_valid_after(now + lives)
    return build.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _constraints(named: tuple[Destination, ...]) -> x509.NameConstraints | None:
    """What the authority may certify. None where a rule is on an address, behind which any name may be, or where there are too many."""
    names = [each.host for each in named if isinstance(each.host, str)]
    if len(names) < len(named) or len(names) > _MOST_CONSTRAINTS or any(isinstance(each.host, Network) for each in named):
        return None
    permitted = [x509.DNSName(name) for name in dict.fromkeys(names)]
    excluded = [x509.IPAddress(ipaddress.ip_network(text)) for text in _EVERY_ADDRESS]
    return x509.NameConstraints(permitted, excluded)
