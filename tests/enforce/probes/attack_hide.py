"""Read what is hidden. Every probe prints what it got; the runner looks for the token. First argument: the stage's root."""

from __future__ import annotations

import ctypes
import fcntl
import glob
import mmap
import os
import struct

from probe_kit import AT_FDCWD, O_PATH, call, main, say, show, wait_for_host


def _read(path: str) -> None:
    with open(path, "rb") as file:
        show(file.read())


def _read_descriptor(descriptor: int) -> None:
    show(os.read(descriptor, 65536))


def plain(root: str, below_home: str) -> None:
    _read(f"{root}/home/{below_home}")


def dots(root: str, below_home: str) -> None:
    _read(f"{root}/home/./project/..//{below_home}")


def proc_root(root: str, below_home: str) -> None:
    _read(f"/proc/self/root{root}/home/{below_home}")


def proc_cwd(root: str, below_home: str) -> None:
    _read(f"/proc/self/cwd/../{below_home}")


def proc_everyone(root: str, below_home: str) -> None:
    """Through the root and the working directory of every process there is."""
    for place in glob.glob("/proc/[0-9]*/root") + glob.glob("/proc/[0-9]*/cwd"):
        for path in (f"{place}{root}/home/{below_home}", f"{place}/../{below_home}"):
            try:
                _read(path)
            except OSError:
                continue


def descriptor_of_parent(root: str, below_home: str) -> None:
    _read_descriptor(os.open(below_home, os.O_RDONLY, dir_fd=os.open(f"{root}/home", O_PATH)))


def path_descriptor_reopened(root: str, below_home: str) -> None:
    held = os.open(f"{root}/home/{below_home}", O_PATH)
    _read(f"/proc/self/fd/{held}")


def openat2_plain(root: str, below_home: str) -> None:
    how = struct.pack("QQQ", os.O_RDONLY, 0, 0)
    _read_descriptor(call("openat2", AT_FDCWD, f"{root}/home/{below_home}".encode(), how, len(how)))


def new_symlink(root: str, below_home: str) -> None:
    os.symlink(f"{root}/home/{below_home}", "innocent")
    _read("innocent")


def new_hard_link(root: str, below_home: str) -> None:
    os.link(f"{root}/home/{below_home}", "innocent")
    _read("innocent")


def mapped(root: str, below_home: str) -> None:
    with open(f"{root}/home/{below_home}", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        show(view[:])


def moved_aside(root: str, below_home: str) -> None:
    top = below_home.split("/", maxsplit=1)[0]
    os.rename(f"{root}/home/{top}", f"{root}/home/aside")
    _read(f"{root}/home/aside/{below_home.partition('/')[2]}".rstrip("/"))


def moved_into_workspace(root: str, below_home: str) -> None:
    os.rename(f"{root}/home/{below_home}", "mine")
    _read("mine")


def copied_range(root: str, below_home: str) -> None:
    source = os.open(f"{root}/home/{below_home}", os.O_RDONLY)
    target = os.open("copy", os.O_RDWR | os.O_CREAT)
    os.copy_file_range(source, target, 65536)
    _read("copy")


def as_a_program(root: str, below_home: str) -> None:
    """A shell quotes the lines of a script that it can't run."""
    show(os.popen(f"sh -v '{root}/home/{below_home}' 2>&1; . '{root}/home/{below_home}' 2>&1").read())


def file_handle(root: str, below_home: str) -> None:
    """open_by_handle_at(2) goes round masks; it needs CAP_DAC_READ_SEARCH."""
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.create_string_buffer(8)
    call("name_to_handle_at", AT_FDCWD, f"{root}/home/{below_home}".encode(), handle, mount, 0)
    _read_descriptor(call("open_by_handle_at", os.open(root, os.O_RDONLY), handle, os.O_RDONLY))


def unmounted(root: str, below_home: str) -> None:
    """Take the mask away. Bare there is none, so the control reads straight away."""
    for flags in (0, 2):
        for path in (f"{root}/home/{below_home}", os.path.dirname(f"{root}/home/{below_home}")):
            try:
                call("umount2", path.encode(), flags)
            except OSError:
                continue
    _read(f"{root}/home/{below_home}")


def environment_file(root: str, name: str) -> None:
    """``**/.env`` in the workspace."""
    _read(name)


def environment_file_by_descriptor(root: str, name: str) -> None:
    directory = os.open(os.path.dirname(name) or ".", os.O_RDONLY)
    _read_descriptor(os.open(os.path.basename(name), os.O_RDONLY, dir_fd=directory))


def environment_file_moved(root: str, name: str) -> None:
    os.rename(name, "plain")
    _read("plain")


def environment_file_with_its_directory(root: str, name: str) -> None:
    directory, base = os.path.split(name)
    os.rename(directory, "elsewhere")
    _read(f"elsewhere/{base}")


def environment_file_linked(root: str, name: str) -> None:
    os.link(name, "plain")
    _read("plain")


def environment_file_exchanged(root: str, name: str) -> None:
    call("renameat2", AT_FDCWD, name.encode(), AT_FDCWD, b"file", 2)
    _read("file")


def existing_link(root: str, name: str) -> None:
    """A link that the host made before the start."""
    _read(name)


def after_host_acted(root: str, *names: str) -> None:
    """Read at once and again for a while after the host created, replaced or linked something."""
    wait_for_host()
    import time

    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        for name in names:
            try:
                _read(name)
            except OSError as error:
                last = error
        time.sleep(0.05)
    say(f"last: {last}" if "last" in locals() else "last: read")


def settled_after_host_acted(root: str, *names: str) -> None:
    """Read only after the sandbox had a third of a second to notice; the strictest window is another probe's."""
    wait_for_host()
    import time

    time.sleep(0.3)
    for name in names:
        try:
            _read(name)
        except OSError as error:
            say(str(error))


def held_descriptor_after_replace(root: str, name: str) -> None:
    """Hold the directory open across the host's replace, read through it."""
    held = os.open(os.path.dirname(name) or ".", os.O_RDONLY | os.O_DIRECTORY)
    wait_for_host()
    import time

    time.sleep(0.3)
    _read_descriptor(os.open(os.path.basename(name), os.O_RDONLY, dir_fd=held))


def list_directory(root: str, below_home: str) -> None:
    """Names are a leak too: print what is in a hidden directory."""
    show(" ".join(os.listdir(f"{root}/home/{below_home}")))


def size_of_content(root: str, below_home: str) -> None:
    say(f"size={os.stat(f'{root}/home/{below_home}').st_size}")


def standard_input_directory(root: str, below: str) -> None:
    """A host directory on standard input leads to hidden files by relative paths."""
    _read_descriptor(os.open(below, os.O_RDONLY, dir_fd=9))


def inherited_directory(root: str, descriptor: str, below: str) -> None:
    _read_descriptor(os.open(below, os.O_RDONLY, dir_fd=int(descriptor)))


def lease(root: str, below_home: str) -> None:
    descriptor = os.open(f"{root}/home/{below_home}", os.O_RDONLY)
    fcntl.fcntl(descriptor, 1024, 0)  # F_SETLEASE: a read lease would delay the host's own writers
    _read_descriptor(descriptor)


if __name__ == "__main__":
    main(globals())
