"""Where the one library of others is imported from: never from where commands may write, and nothing else with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the egress proxy is Linux's", allow_module_level=True)

from houseroom.errors import CannotEnforce
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.model import Origin, Places, Policy, Rule, Stratum
from houseroom.session import certificates, extra


def writing(*paths: str) -> PlacedPolicy:
    rules = [Rule("files.read", "/", Origin("preset", "a test"))] + [
        Rule("files.write", path, Origin("session", "a test")) for path in paths
    ]
    stratum = Stratum("workspace", tuple(rules), {}, frozenset({"files.write"}))
    return PlacedPolicy(Policy("test", (stratum,)), Places("/nowhere", "/nowhere"))


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something that looks like the library, the only one there is."""
    bindings = tmp_path / "site" / "cryptography" / "hazmat" / "bindings"
    bindings.mkdir(parents=True)
    (tmp_path / "site" / "cryptography" / "__init__.py").write_text("WHERE = 'the extra'")
    (bindings / "_rust.abi3.so").touch()
    (tmp_path / "site" / "_cffi_backend.x.so").touch()
    (tmp_path / "site" / "json.py").write_text("raise SystemExit('imported what nobody asked for')")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(extra, "_directories", lambda: iter((str(tmp_path / "site"),)))
    return tmp_path / "site"


def test_it_is_found_where_commands_may_not_write(library: Path) -> None:
    assert extra.find(writing(str(library.parent / "elsewhere"))) == extra.find() == str(library)


RUST = "cryptography/hazmat/bindings/_rust.abi3.so"


@pytest.mark.parametrize("where", ["", "..", "cryptography", "cryptography/hazmat/bindings/deeper", RUST, "_cffi_backend.x.so"])
def test_it_is_not_taken_from_where_they_may(library: Path, where: str) -> None:
    with pytest.raises(CannotEnforce, match="which commands may write"):
        extra.find(writing(os.path.normpath(library / where)))


@pytest.mark.parametrize("name", ["cryptography", "cryptography/hazmat/bindings", RUST, "_cffi_backend.x.so"])
def test_links_are_followed_first(library: Path, name: str) -> None:
    away = library.parent / "elsewhere" / "it"
    (library / name).rename(away)
    (library / name).symlink_to(away)
    assert extra.find(writing()) == str(library)
    with pytest.raises(CannotEnforce, match="which commands may write"):
        extra.find(writing(str(away.parent)))


def test_what_anybody_may_write_is_not_taken(library: Path) -> None:
    (library / "_cffi_backend.x.so").chmod(0o666)
    with pytest.raises(CannotEnforce, match="anybody may write"):
        extra.find(writing())


def test_where_there_is_none_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extra, "_directories", lambda: iter((str(tmp_path),)))
    with pytest.raises(CannotEnforce) as caught:
        extra.find(writing())
    assert "pip install 'houseroom[inspect]'" in caught.value.hint


def test_only_the_library_comes_in(library: Path) -> None:
    source = Path(extra.__file__).parents[2]
    program = f"""
import sys
sys.path.insert(0, {str(source)!r})
from houseroom.session import extra
before = list(sys.path)
extra.let_in({str(library)!r})
import cryptography, json
assert cryptography.WHERE == "the extra" and not json.__file__.startswith({str(library)!r}) and sys.path == before
try:
    import something_else
except ImportError:
    print("only that")
"""
    (library / "something_else.py").touch()
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "only that\n", done.stderr


def test_of_what_variables_name_only_certificates_are_taken(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
    bundle, own, secret = tmp_path / "bundle", tmp_path / "own", tmp_path / "secret"
    bundle.write_text("# a remark\n" + pem.format("AA") + pem.format("BB"))
    own.write_text("-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n" + pem.format("CC") + pem.format("AA"))
    secret.write_text("password\n-----BEGIN CERTIFICATE-----\ncut off")
    environ = {b"SSL_CERT_FILE": os.fsencode(own), b"PIP_CERT": os.fsencode(secret), b"CURL_CA_BUNDLE": b"", b"AWS_CA_BUNDLE": b"/dev/zero"}
    assert certificates.trusted((str(bundle),), environ).decode() == "".join(map(pem.format, ("AA", "BB", "CC")))
    assert certificates.verifying((str(bundle),), environ, writing()).decode() == "".join(map(pem.format, ("CC", "AA")))
    assert certificates.verifying((str(bundle),), {}, writing()).decode() == "".join(map(pem.format, ("AA", "BB")))
    for placed, given, words in (
        (writing(str(tmp_path)), environ, "commands may write"),
        (writing(), {b"SSL_CERT_FILE": b"/x"}, "no cert"),
        (writing(), {b"SSL_CERT_FILE": b"own"}, "wherever that is"),
    ):
        with pytest.raises(CannotEnforce, match=words):
            certificates.verifying((str(bundle),), given, placed)


def test_where_certificates_are_looked_for_needs_no_directory_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's current directory may be gone, and what a variable says there means nothing."""
    (tmp_path / "gone").mkdir()
    bundle = tmp_path / "bundle"
    bundle.write_text("-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n")
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    found, given = (str(bundle),), {b"PIP_CERT": b"bundle"}
    assert certificates.trusted(found, given) == certificates.verifying(found, given, writing()) == bundle.read_bytes()
