"""Some hundred file system situations, one line each: what the call answers. Run bare and inside, the lines must be equal.

Works below the current directory only, in a directory it makes. Every path is relative, so nothing outside is touched.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable

from probe_kit import AT_FDCWD, call, say


def case(name: str, act: Callable[[], object]) -> None:
    try:
        result = act()
    except OSError as error:
        say(f"{name}: {errno.errorcode.get(error.errno or 0)}")
    else:
        say(f"{name}: {result}")


def mode(path: str) -> str:
    return oct(os.lstat(path).st_mode)


def opened(path: str, flags: int, bits: int = 0o666) -> str:
    descriptor = os.open(path, flags, bits)
    try:
        return f"{mode(path) if os.path.lexists(path) else 'gone'} {os.lseek(descriptor, 0, 1)}"
    finally:
        os.close(descriptor)


def through(path: str, flags: int, how: int) -> str:
    arguments = struct.pack("QQQ", flags, 0o644 if flags & os.O_CREAT else 0, how)
    os.close(call("openat2", AT_FDCWD, path.encode(), arguments, len(arguments)))
    return "opened"


def made(act: Callable[[], object], path: str) -> str:
    act()
    return mode(path)


def in_deleted_directory() -> None:
    os.mkdir("doomed")
    held = os.open("doomed", os.O_RDONLY)
    os.rmdir("doomed")
    case("create in a deleted directory", lambda: os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=held))
    case("mkdir in a deleted directory", lambda: os.mkdir("x", dir_fd=held))
    os.close(held)


def main(_names: object) -> None:
    os.mkdir("oracle")
    os.chdir("oracle")
    os.umask(0o022)
    creating, writing, exclusive = os.O_CREAT, os.O_WRONLY, os.O_EXCL
    for name in ("file", "other"):
        with open(name, "w") as file:
            file.write("text")
    os.makedirs("dir/full/x")
    os.mkdir("empty")
    os.symlink("missing-target", "dangling")
    os.symlink("loop-b", "loop-a")
    os.symlink("loop-a", "loop-b")
    os.symlink("dir", "to-dir")
    os.symlink("file", "to-file")
    os.mkdir("closed")
    os.chmod("closed", 0o555)
    long = "n" * 256
    flags = {"creat": creating | writing, "excl": creating | exclusive | writing, "read": creating, "dir": creating | os.O_DIRECTORY}
    names = {
        "file": "file", "dir": "dir", "dangling": "dangling", "loop": "loop-a", "to-dir": "to-dir", "to-file": "to-file", "slash": "new/",
        "file slash": "file/", "below file": "file/x", "below missing": "no/x", "long": long, "empty name": "", "dot": ".", "dotdot": "..",
        "below dir link": "to-dir/via",
        **({} if os.geteuid() == 0 else {"closed": "closed/x"}),  # inside, root has no capability to pass it
        "dir dot": "dir/.", "double": "dir//double",
    }  # fmt: skip
    for word, bits in flags.items():
        for label, path in names.items():
            case(f"open {word} {label}", lambda path=path, bits=bits: opened(path, bits))  # type: ignore[misc]
    case("open nofollow", lambda: opened("to-file", creating | writing | os.O_NOFOLLOW))
    case("open append", lambda: opened("file", creating | writing | os.O_APPEND))
    case("open truncate", lambda: (opened("other", creating | writing | os.O_TRUNC), os.stat("other").st_size))
    case("open odd mode", lambda: opened("odd", creating | writing, 0o1751))
    case("open tmpfile", lambda: os.close(os.open("dir", writing | os.O_TMPFILE, 0o600)))
    case("openat2 beneath", lambda: through("dir/beneath", creating | writing, 0x08))
    case("openat2 beneath up", lambda: through("../up", creating | writing, 0x08))
    case("openat2 no symlinks", lambda: through("to-dir/x", creating | writing, 0x04))
    case("openat2 in root", lambda: through("/dir/inroot", creating | writing, 0x10))
    case("openat2 bad flags", lambda: through("dir/bad", 1 << 40, 0))
    for label, path in {**names, "existing": "empty", "new": "made"}.items():
        case(f"mkdir {label}", lambda path=path: os.mkdir(path))  # type: ignore[misc]
        case(f"symlink {label}", lambda path=path: os.symlink("target", path))  # type: ignore[misc]
        case(f"mknod {label}", lambda path=path: os.mknod(path, stat.S_IFREG | 0o640))  # type: ignore[misc]
        case(f"fifo {label}", lambda path=path: os.mkfifo(path))  # type: ignore[misc]
        case(f"link {label}", lambda path=path: os.link("file", path))  # type: ignore[misc]
        case(f"rename to {label}", lambda path=path: os.rename("missing", path))  # type: ignore[misc]
    case("mkdir setgid", lambda: made(lambda: os.mkdir("bits", 0o2775), "bits"))
    case("link a directory", lambda: os.link("dir", "hard"))
    case("link missing", lambda: os.link("no", "hard"))
    case("link a symlink", lambda: (os.link("to-file", "hard-link", follow_symlinks=False), os.path.islink("hard-link")))
    case("symlink empty target", lambda: os.symlink("", "e"))
    case("rename file over dir", lambda: os.rename("file", "empty"))
    case("rename dir over file", lambda: os.rename("empty", "file"))
    case("rename dir over full", lambda: os.rename("empty", "dir"))
    case("rename into itself", lambda: os.rename("dir", "dir/full/y"))
    case("rename same", lambda: os.rename("file", "file"))
    case("rename trailing slash", lambda: os.rename("empty/", "renamed/"))
    case("rename file slash", lambda: os.rename("file", "target/"))
    case("rename dot", lambda: os.rename(".", "x"))
    case("rename noreplace", lambda: call("renameat2", AT_FDCWD, b"file", AT_FDCWD, b"other", 1))
    case("rename exchange", lambda: call("renameat2", AT_FDCWD, b"file", AT_FDCWD, b"other", 2))
    case("rename exchange missing", lambda: call("renameat2", AT_FDCWD, b"file", AT_FDCWD, b"none", 2))
    case("rename bad flags", lambda: call("renameat2", AT_FDCWD, b"file", AT_FDCWD, b"other", 3))
    case("unlink dir", lambda: os.unlink("dir"))
    case("rmdir full", lambda: os.rmdir("dir"))
    case("rmdir file", lambda: os.rmdir("file"))
    case("bad descriptor", lambda: os.mkdir("x", dir_fd=999))
    case("file as directory", lambda: os.mkdir("x", dir_fd=os.open("file", os.O_RDONLY)))
    case("bad address", lambda: call("linkat", AT_FDCWD, 8, AT_FDCWD, b"x", 0))
    in_deleted_directory()
    os.umask(0o077)
    case("umask file", lambda: opened("masked", creating | writing))
    case("umask dir", lambda: made(lambda: os.mkdir("masked-dir"), "masked-dir"))
    case("umask fifo", lambda: made(lambda: os.mkfifo("masked-fifo", 0o666), "masked-fifo"))
    os.umask(0)
    case("umask none", lambda: opened("unmasked", creating | writing))
    case("final tree", lambda: sorted((name, mode(name)) for name in os.listdir(".")))
