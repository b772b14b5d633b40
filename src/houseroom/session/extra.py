"""The one library that is not the interpreter's own: ``cryptography``, the extra ``inspect``, where a rule is on requests.

houseroom starts without ``site`` and with nothing of others on ``sys.path`` (docs/adr/0001-start-up.md). Only the process that looks
into connections lets this library in, after the place where it lies was looked at: what a command inside could write is not
executed outside.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _frozen_importlib_external as files  # as in bundle.py
import os

from houseroom.bundle import PACKAGE
from houseroom.errors import CannotEnforce
from houseroom.policy.model import WRITE
from houseroom.policy.pattern import components

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _frozen_importlib import ModuleSpec
    from collections.abc import Iterator
    from typing import Final

    from houseroom.policy.decide import PlacedPolicy

INSTALL: Final = "pip install 'houseroom[inspect]'"
_LIBRARY = "cryptography"
_BELOW = "_cffi_backend"  # what its compiled half imports, a single file
_COMPILED = f"{_LIBRARY}/hazmat/bindings"


def find(placed: PlacedPolicy | None = None) -> str:
    """The directory that the library may be imported from: beside houseroom's own package, or of its interpreter.

    Without a policy nothing is asked of the directory. Raises CannotEnforce where there is none, or none that is safe under this policy.
    """
    unsafe = ""
    for directory in _directories():
        if os.path.isfile(f"{directory}/{_LIBRARY}/__init__.py"):
            why = _unsafe(placed, directory) if placed is not None else ""
            if not why:
                return directory
            unsafe = unsafe or f"{directory} {why}"
    where = ("network.allow",)
    if unsafe:
        hint = "Install houseroom outside of the workspace (pipx), or add --protect for that directory."
        raise CannotEnforce(where, f"the library that looks into TLS would be imported from {unsafe}", hint)
    hint = f"Install it: {INSTALL}. Your system's own python3-cryptography does too, where houseroom runs on its python3."
    raise CannotEnforce(where, "a rule with a method or a path needs the extra that looks into TLS", hint)


def _directories() -> Iterator[str]:
    yield os.path.dirname(PACKAGE)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    own = os.path.dirname(os.path.dirname(sys.executable)) if sys.executable else ""
    prefixes = [own] if own and os.path.isfile(f"{own}/pyvenv.cfg") else []  # -S leaves it out of sys.prefix
    for prefix in (*prefixes, sys.base_prefix):
        yield from (f"{prefix}/{lib}/{version}/site-packages" for lib in ("lib", "lib64"))
        # As Debian arranges it.
        yield from (f"{prefix}/{path}/dist-packages" for path in (f"local/lib/{version}", f"lib/{version}", "lib/python3"))


def _unsafe(placed: PlacedPolicy, directory: str) -> str:
    """Why nothing is imported from there, as words that follow its name; "" where it is fit.

    All paths are resolved: some installers put links, or names of the same file elsewhere, in the place of files.
    """
    found = [directory, f"{directory}/{_LIBRARY}", f"{directory}/{_COMPILED}"]
    for parent, start in ((directory, _BELOW), (f"{directory}/{_COMPILED}", "_rust")):
        try:
            found += [f"{parent}/{name}" for name in os.listdir(parent) if name.startswith(start) and name.endswith(".so")]
        except OSError as error:
            return f"can't be read: {error.strerror}"
    for path in found:
        real = os.path.realpath(path)
        parts = components(real)
        if placed.access(parts)[0] == WRITE or any(root[: len(parts)] == parts for root in placed.writable()):
            return "which commands may write"
        try:
            if os.stat(real).st_mode & 0o002:
                return f"and anybody may write {real}"
        except OSError as error:
            return f"can't be read: {error.strerror}"
    return ""


def let_in(directory: str) -> None:
    """From now on the library is imported from there, and nothing else is."""
    sys.meta_path.insert(0, _Door(directory))


class _Door:
    """A finder for ``sys.meta_path``."""

    def __init__(self, directory: str):
        self.directory = directory

    def find_spec(self, name: str, path: object = None, _target: object = None) -> ModuleSpec | None:
        """As the import system asks it; None leaves a module to the finders after this one."""
        top = name.partition(".")[0]
        if top not in (_LIBRARY, _BELOW):
            return None
        return files.PathFinder.find_spec(name, [self.directory] if name == top else path)  # type: ignore[arg-type]  # a package's own path
