"""Which authorities a sandbox trusts whose connections are looked into: those of the host, and the one of its own."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.errors import CannotEnforce
from houseroom.policy.model import WRITE
from houseroom.policy.pattern import components

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

    from houseroom.policy.decide import PlacedPolicy

# Where systems keep all authorities in one file. Programs that ask no variable look at one of these.
FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # the same, where it is made
    "/etc/pki/tls/cert.pem",
    "/etc/ca-certificates/extracted/tls-ca-bundle.pem",  # Arch, where it is made
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/var/lib/ca-certificates/ca-bundle.pem",  # the same, where it is made
    "/etc/ssl/certs/ca-bundle.crt",  # NixOS
    "/etc/ssl/cert.pem",  # Alpine, and OpenSSL as it comes
)
# Who asks which variable for such a file.
VARIABLES: Final = (
    ("SSL_CERT_FILE", "OpenSSL, Go, rustls, and most of what is built on them"),
    ("CURL_CA_BUNDLE", "curl, requests"),
    ("REQUESTS_CA_BUNDLE", "requests, which has authorities of its own"),
    ("PIP_CERT", "pip, the same"),
    ("NODE_EXTRA_CA_CERTS", "Node.js, the same"),
    ("GIT_SSL_CAINFO", "git"),
    ("CARGO_HTTP_CAINFO", "cargo"),
    ("DENO_CERT", "Deno, which has authorities of its own"),
    ("AWS_CA_BUNDLE", "the AWS command line and botocore, the same"),
    ("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "gcloud"),
    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "gRPC, which has authorities of its own"),
    ("HTTPLIB2_CA_CERTS", "httplib2, the same"),
    ("NIX_SSL_CERT_FILE", "Nix"),
    ("BUNDLE_SSL_CA_CERT", "Bundler"),
)
_OWN = b"SSL_CERT_FILE"
_LARGEST = 16 << 20  # bytes of one such file
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def files() -> tuple[str, ...]:
    """Those that there are on this host, each by its real path and once."""
    return tuple(dict.fromkeys(os.path.realpath(path) for path in FILES if os.path.isfile(path)))


def trusted(found: Iterable[str], environ: Mapping[bytes, bytes]) -> bytes:
    """All certificates that the caller's programs trust, in PEM: of the host's files, and of those that the caller's variables name.

    Nothing but certificates is taken: a variable may name a file that is hidden from the sandbox. Only whole paths are followed.
    """
    named = [os.fsdecode(environ.get(os.fsencode(name), b"")) for name, _ in VARIABLES]
    return _certificates((*found, *(path for path in named if path[:1] == "/")))


def verifying(found: Iterable[str], environ: Mapping[bytes, bytes], placed: PlacedPolicy) -> bytes:
    """Those that servers are verified by, in PEM: the caller's of SSL_CERT_FILE, else the host's.

    Raises CannotEnforce where there are none, or where commands could change them.
    """
    own, where = os.fsdecode(environ.get(_OWN, b"")), ("network.allow",)
    if not own:
        pem = _certificates(found)
    elif own[0] != "/":
        raise CannotEnforce(where, f"servers would be verified by {own} (SSL_CERT_FILE), wherever that is", "Name it by its whole path.")
    elif placed.access(components(own := os.path.realpath(own)))[0] == WRITE:
        raise CannotEnforce(where, f"servers would be verified by {own}, which commands may write", "Move it, or add --protect for it.")
    else:
        pem = _certificates((own,))
    if not pem:
        raise CannotEnforce(where, "there is no certificate authority that servers could be verified by", "Install ca-certificates.")
    return pem


def _certificates(paths: Iterable[str]) -> bytes:
    pieces = dict[bytes, None]()
    for path in dict.fromkeys(map(os.path.realpath, paths)):
        for piece in _read(path).split(_BEGIN)[1:]:
            inside, end, _ = piece.partition(_END)
            if end and inside.isascii():
                pieces[_BEGIN + inside + _END + b"\n"] = None
    return b"".join(pieces)


def variables(path: str) -> tuple[tuple[str, str], ...]:
    """The variables that lead programs to the file."""
    return tuple((name, path) for name, _ in VARIABLES)


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with open(fd, "rb") as file:
        try:
            return file.read(_LARGEST) if os.path.isfile(fd) else b""
        except OSError:
            return b""
