"""The package's compiled code in one file, so that a start opens one file and not one for each of fifty modules.

Python keeps the code of each module in a file of ``__pycache__``; to find, check and read those takes longer than to run what is
in them (docs/adr/0008-one-file-of-code.md). The bundle lies in the same directory and holds the same for every module: its code, and
time and size of the source that this was made of. A module is served only while its source is still that one. Whatever is odd, the
file's owner, its form, a hash, is a miss: then the module is imported as ever, and a new bundle is written at the end.

The bundle is exactly as trusted as the .pyc files beside it: who can write one can write the other, and the sources. It is looked
for nowhere else, least of all where an environment variable says.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # type checkers for Windows stop reading here

import _frozen_importlib_external as files  # what importlib is made of, and always loaded; importlib itself would cost a millisecond
import _imp
import marshal
import posix
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

    # Of one module: whether it is a package, its source's time in ns and size, and of its code the hash, place and length.
    Row = tuple[bool, int, int, bytes, int, int]
    # Of one module: its name, whether it is a package, and its source's time in ns and size; 0 and -1 for none.
    State = tuple[str, bool, int, int]

NAME = "houseroom"
PACKAGE = __file__.rpartition("/")[0]
PATH = f"{PACKAGE}/__pycache__/{NAME}.{sys.implementation.cache_tag}.bundle"
MADE_FOR = b"%s 1 %d " % (NAME.encode(), sys.flags.optimize) + files.MAGIC_NUMBER  # code made under -O has no asserts
_HEAD = len(MADE_FOR) + 8 + 4  # then the index's hash and length
_FIRST_READ = 1 << 14  # bytes: the index of a hundred and fifty modules


class Bundle:
    """A finder for ``sys.meta_path``. ``missed`` tells that something of ours had to be imported in another way."""

    def __init__(self, fd: int = -1, start: int = 0, rows: dict[str, Row] | None = None):
        self.fd, self.start, self.rows = fd, start, rows or {}
        self.held: dict[str, bytes] = {}  # code in memory
        self.sure: set[str] = set()  # modules whose sources need not be looked at any more
        self.served: dict[str, Row] = {}  # what was imported from here, each with the state of its source at that moment
        self.missed = self.sealed = False

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """As the import system asks it; None leaves a module to the finders after this one."""
        if name.partition(".")[0] != NAME:
            return None
        data = self.held.pop(name, None) or self._read(name)
        if data is None:
            self.missed = True
            if name == NAME:  # the command leaves it off sys.path (docs/adr/0001-start-up.md)
                return files.spec_from_file_location(name, source(name, package=True), submodule_search_locations=[PACKAGE])
            return None
        package = self.rows[name][0]
        path = source(name, package=package)
        spec = ModuleSpec(name, _Loader(name, path, data), origin=path, is_package=package)
        spec.has_location = True  # so that the module gets its __file__
        spec.cached = PATH
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(path.rpartition("/")[0])
        return spec

    def hold(self, name: str) -> None:
        """See to it that a module's code can be had without its files: from the bundle, which stays open, or from memory.

        Raises OSError and what else an import raises.
        """
        if self._fits(name):
            self.sure.add(name)
            return
        package = exists(source(name, package=True))
        self.held[name] = marshal.dumps(files.SourceFileLoader(name, source(name, package=package)).get_code(name))
        self.rows[name] = (package, 0, 0, b"", 0, 0)

    def _read(self, name: str) -> bytes | None:
        """A module's code as it was written, None where there is none that fits its source."""
        if name not in self.sure and not self._fits(name):
            return None
        _, _, _, digest, at, length = self.rows[name]
        try:
            data = posix.pread(self.fd, length, self.start + at)
        except OSError:
            return None
        if hashed(data) != digest:
            return None
        self.served[name] = self.rows[name]
        return data

    def _fits(self, name: str) -> bool:
        """Whether the code here was made of the module's source as that is now."""
        if self.fd < 0 or self.sealed or name not in self.rows:
            return False
        package, time, size, _, _, _ = self.rows[name]
        try:
            status = posix.stat(source(name, package=package))
        except OSError:
            return False
        return status.st_mtime_ns == time and status.st_size == size


class _Loader(files.SourceFileLoader):
    """Does all that the loader of a source file does (tracebacks, inspect, coverage); only the code is there already."""

    def __init__(self, name: str, path: str, data: bytes):
        super().__init__(name, path)
        self.data = data

    def get_code(self, fullname: str) -> CodeType | None:
        """The code, once: what has been run is needed no more, and whoever asks later gets it from the source."""
        data, self.data = self.data, b""
        if not data:
            return super().get_code(fullname)
        code: CodeType = files._compile_bytecode(data, fullname, PATH, self.path)  # type: ignore[attr-defined]  # as that of a .pyc file
        return code


def serve() -> Bundle:
    """Import this package from its bundle from now on. Where it has ``missed`` something at the end, renew it."""
    bundle = _opened()
    sys.meta_path.insert(0, bundle)
    return bundle


def hold(names: Iterable[str]) -> tuple[int, ...]:
    """See to it that these modules can be imported when their files are out of sight.

    Returns the descriptors that must stay open for that. Raises OSError where a module has no file.
    """
    bundle = _serving()
    if bundle is None:
        bundle = Bundle()
        sys.meta_path.insert(0, bundle)
    for name in names:
        if name not in sys.modules and name not in bundle.held and name not in bundle.sure:
            bundle.hold(name)
    return (bundle.fd,) if bundle.fd >= 0 else ()


def seal() -> None:
    """From now on nothing is imported but what is held or part of the interpreter: no file is looked for."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not files.PathFinder]
    bundle = _serving()
    if bundle is not None:
        bundle.sealed = True


def used() -> tuple[State, ...]:
    """The modules of ours that this process has imported, and the state of each one's source."""
    return tuple(_states([(name, hasattr(module, "__path__")) for name, module in sys.modules.items() if name.partition(".")[0] == NAME]))


def unchanged(states: Iterable[State]) -> bool:
    """Whether the sources of these modules are in the same state now. Never where one has no source of its own."""
    then = list(states)
    return _states([(name, package) for name, package, _, _ in then]) == then and all(size >= 0 for _, _, _, size in then)


def _states(modules: list[tuple[str, bool]]) -> list[State]:
    """As they were when they were served here, else as they are."""
    bundle = _serving()
    served = bundle.served if bundle is not None else {}
    found: list[State] = []
    for name, package in modules:
        if name in served:
            found.append((name, *served[name][:3]))
            continue
        try:
            status = posix.stat(source(name, package=package))
            found.append((name, package, status.st_mtime_ns, status.st_size))
        except OSError:
            found.append((name, package, 0, -1))
    return found


def source(name: str, *, package: bool) -> str:
    """The file of a module of ours."""
    return PACKAGE + name[len(NAME) :].replace(".", "/") + ("/__init__.py" if package else ".py")


def hashed(data: bytes) -> bytes:
    """Eight bytes that differ when a disk or a copy went wrong: a guard against accidents, as Python has it for .pyc files."""
    return _imp.source_hash(0, data)


def owners() -> tuple[int, int]:
    """Whose bundle is taken: root's, or the package's owner's."""
    return 0, posix.stat(PACKAGE).st_uid


def exists(path: str) -> bool:
    """Whether there is anything at a path."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def _opened() -> Bundle:
    try:
        fd = posix.open(PATH, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        return Bundle()
    try:
        return Bundle(fd, *_index(fd))
    except (OSError, ValueError, EOFError, TypeError):
        posix.close(fd)
        return Bundle()


def _index(fd: int) -> tuple[int, dict[str, Row]]:
    """Where the modules' code begins, and what is where. Raises ValueError for a file that is not plainly a bundle of ours."""
    status = posix.fstat(fd)
    if status.st_mode & 0o170000 != 0o100000 or status.st_mode & 0o022 or status.st_uid not in owners():
        raise ValueError(PATH)  # not a regular file, or others may write it (inode(7))
    head = posix.pread(fd, _FIRST_READ, 0)
    end = _HEAD + int.from_bytes(head[_HEAD - 4 : _HEAD], "little")
    index = head[_HEAD:end] if end <= len(head) else posix.pread(fd, end - _HEAD, _HEAD)
    if head[: len(MADE_FOR)] != MADE_FOR or head[len(MADE_FOR) : _HEAD - 4] != hashed(index):
        raise ValueError(PATH)
    return end, marshal.loads(index)


def _serving() -> Bundle | None:
    return next((finder for finder in sys.meta_path if isinstance(finder, Bundle)), None)
