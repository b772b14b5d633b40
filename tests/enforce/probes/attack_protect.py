"""Create, change, move or replace a protected path in the workspace. Arguments: the stage's root, the target below the workspace.

Ways are functions, targets come from the test's table, so every way meets every kind of target.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import stat
import struct
import subprocess
import threading
import time

from probe_kit import (
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    LIBC,
    O_TMPFILE,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    call,
    first_that_works,
    main,
    say,
)


def _ancestors(target: str) -> None:
    """The ancestors are ordinary directories; making them is allowed where they themselves are not protected."""
    parent = os.path.dirname(target)
    if parent:
        os.makedirs(parent, exist_ok=True)


# -- create what is missing ---------------------------------------------------------------------------------------------


def make_open(root: str, target: str) -> None:
    _ancestors(target)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT))


def make_open_exclusive(root: str, target: str) -> None:
    _ancestors(target)
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_TRUNC, 0o777))


def make_open_read_only(root: str, target: str) -> None:
    """O_CREAT without a write mode creates all the same."""
    _ancestors(target)
    os.close(os.open(target, os.O_RDONLY | os.O_CREAT))


def make_creat(root: str, target: str) -> None:
    _ancestors(target)
    call("creat", target.encode(), 0o644)


def make_openat2(root: str, target: str) -> None:
    _ancestors(target)
    how = struct.pack("QQQ", os.O_WRONLY | os.O_CREAT, 0o644, 0)
    call("openat2", AT_FDCWD, target.encode(), how, len(how))


def make_openat2_beneath(root: str, target: str) -> None:
    _ancestors(target)
    how = struct.pack("QQQ", os.O_WRONLY | os.O_CREAT, 0o644, 0x08 | 0x04)  # RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
    call("openat2", AT_FDCWD, target.encode(), how, len(how))


def make_by_descriptor(root: str, target: str) -> None:
    _ancestors(target)
    directory = os.open(os.path.dirname(target) or ".", os.O_RDONLY | os.O_DIRECTORY)
    os.close(os.open(os.path.basename(target), os.O_WRONLY | os.O_CREAT, dir_fd=directory))


def make_by_path_descriptor(root: str, target: str) -> None:
    _ancestors(target)
    directory = os.open(os.path.dirname(target) or ".", os.O_PATH | os.O_DIRECTORY)
    os.mkdir(os.path.basename(target), dir_fd=directory)


def make_by_proc_cwd(root: str, target: str) -> None:
    _ancestors(target)
    os.close(os.open(f"/proc/self/cwd/{target}", os.O_WRONLY | os.O_CREAT))


def make_by_proc_descriptor(root: str, target: str) -> None:
    _ancestors(target)
    directory = os.open(os.path.dirname(target) or ".", os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir(f"/proc/self/fd/{directory}/{os.path.basename(target)}")


def make_by_proc_root(root: str, target: str) -> None:
    _ancestors(target)
    os.mkdir(f"/proc/self/root{os.getcwd()}/{target}")


def make_by_dev_fd(root: str, target: str) -> None:
    _ancestors(target)
    directory = os.open(os.path.dirname(target) or ".", os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir(f"/dev/fd/{directory}/{os.path.basename(target)}")


def make_directory(root: str, target: str) -> None:
    _ancestors(target)
    os.mkdir(target)


def make_directories(root: str, target: str) -> None:
    os.makedirs(f"{target}/hooks")


def make_directory_trailing_slashes(root: str, target: str) -> None:
    _ancestors(target)
    os.mkdir(f"{target}///")


def make_directory_dot_spellings(root: str, target: str) -> None:
    _ancestors(target)
    parent, base = os.path.split(target)
    os.mkdir(f".//./{parent or '.'}/.//../{os.path.basename(parent) or os.path.basename(os.getcwd())}/./{base}/")


def make_directory_absolute(root: str, target: str) -> None:
    _ancestors(target)
    os.mkdir(f"{os.getcwd()}/{target}")


def make_long_path(root: str, target: str) -> None:
    """A spelling of nearly 4,096 bytes: whoever reads a shorter buffer sees another name."""
    _ancestors(target)
    os.mkdir(b"./" * 2000 + target.encode())


def make_across_page(root: str, target: str) -> None:
    """The path lies across a page boundary with nothing mapped behind it."""
    import mmap

    _ancestors(target)
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    area = mmap.mmap(-1, 3 * 4096)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    name = target.encode() + b"\0"
    place = start + 8192 - len(name)
    ctypes.memmove(place, name, len(name))
    assert LIBC.mprotect(start + 8192, 4096, 0) == 0
    number = {"x86_64": 83}.get(os.uname().machine)
    try:
        if number:
            call(number, place, 0o755)
        else:
            call(34, AT_FDCWD, place, 0o755)
    finally:
        LIBC.mprotect(start + 8192, 4096, 3)


def make_by_rename_file(root: str, target: str) -> None:
    _ancestors(target)
    os.rename("file", target)


def make_by_rename_directory(root: str, target: str) -> None:
    _ancestors(target)
    os.makedirs("fake/hooks")
    os.rename("fake", target)


def make_by_rename_noreplace(root: str, target: str) -> None:
    _ancestors(target)
    call("renameat2", AT_FDCWD, b"file", AT_FDCWD, target.encode(), RENAME_NOREPLACE)


def make_by_rename_descriptors(root: str, target: str) -> None:
    _ancestors(target)
    os.mkdir("fake")
    here = os.open(".", os.O_PATH)
    there = os.open(os.path.dirname(target) or ".", os.O_PATH)
    os.rename("fake", os.path.basename(target), src_dir_fd=here, dst_dir_fd=there)


def make_by_rename_of_parent(root: str, target: str) -> None:
    """Make the tree under another name, with the protected name inside, then rename a parent into place."""
    first = target.split("/", maxsplit=1)[0]
    if "/" not in target:
        raise OSError(22, "needs an ancestor")
    os.makedirs("fake/" + "/".join(target.split("/")[1:-1]), exist_ok=True)
    os.mkdir("fake/" + "/".join(target.split("/")[1:]))
    os.rename("fake", first)


def make_by_link(root: str, target: str) -> None:
    _ancestors(target)
    os.link("file", target)


def make_by_symlink(root: str, target: str) -> None:
    _ancestors(target)
    os.symlink("directory", target)


def make_by_symlink_away(root: str, target: str) -> None:
    _ancestors(target)
    os.symlink(f"{root}/outside", target)


def make_fifo(root: str, target: str) -> None:
    _ancestors(target)
    os.mkfifo(target)


def make_node(root: str, target: str) -> None:
    _ancestors(target)
    os.mknod(target, stat.S_IFREG | 0o644)


def make_socket(root: str, target: str) -> None:
    _ancestors(target)
    os.chdir(os.path.dirname(target) or ".")
    socket.socket(socket.AF_UNIX).bind(os.path.basename(target))


def make_temporary_link(root: str, target: str) -> None:
    _ancestors(target)
    descriptor = os.open(".", os.O_WRONLY | O_TMPFILE, 0o644)
    call("linkat", AT_FDCWD, f"/proc/self/fd/{descriptor}".encode(), AT_FDCWD, target.encode(), AT_SYMLINK_FOLLOW)


def make_through_dangling_symlink(root: str, target: str) -> None:
    """O_CREAT follows a symbolic link whose target is missing."""
    _ancestors(target)
    os.symlink(target, "innocent")
    os.close(os.open("innocent", os.O_WRONLY | os.O_CREAT))


def make_through_two_dangling_symlinks(root: str, target: str) -> None:
    _ancestors(target)
    os.symlink(f"{os.getcwd()}/{target}", "second")
    os.symlink("second", "first")
    os.close(os.open("first", os.O_WRONLY | os.O_CREAT))


def make_through_directory_symlink(root: str, target: str) -> None:
    _ancestors(target)
    os.symlink(os.path.dirname(target) or ".", "way")
    os.mkdir(f"way/{os.path.basename(target)}")


def make_after_chdir(root: str, target: str) -> None:
    _ancestors(target)
    os.chdir(os.path.dirname(target) or ".")
    os.mkdir(os.path.basename(target))


def make_from_moved_directory(root: str, target: str) -> None:
    """Hold a directory, move it below, create through the descriptor: its place must be judged now, not when it was opened."""
    os.mkdir("held")
    held = os.open("held", os.O_RDONLY | os.O_DIRECTORY)
    os.rename("held", "directory/held")
    os.mkdir(os.path.basename(target), dir_fd=held)


def make_by_shell(root: str, target: str) -> None:
    done = subprocess.run(f"mkdir -p '{target}' || cp -r directory '{target}' || mv directory '{target}'", shell=True, check=False)
    if done.returncode:
        raise OSError(13, "the shell could not")


def make_by_archive(root: str, target: str) -> None:
    shutil.rmtree("pack", ignore_errors=True)
    os.makedirs("pack/x/hooks")
    parts = target.strip("/")
    done = subprocess.run(
        ["tar", "-cf", "pack.tar", f"--transform=s,^x,{parts},", "-C", "pack", "x"],
        check=False,
    )
    done = subprocess.run(["tar", "-xf", "pack.tar"], check=False, stderr=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(13, "tar could not")


# -- change what exists -------------------------------------------------------------------------------------------------


def change_append(root: str, target: str) -> None:
    with open(target, "ab") as file:
        file.write(b"attack\n")


def change_replace(root: str, target: str) -> None:
    os.rename("file", target)


def change_exchange(root: str, target: str) -> None:
    call("renameat2", AT_FDCWD, b"file", AT_FDCWD, target.encode(), RENAME_EXCHANGE)


def change_unlink(root: str, target: str) -> None:
    first_that_works(lambda: os.unlink(target), lambda: shutil.rmtree(target))


def change_move_away(root: str, target: str) -> None:
    os.rename(target, "moved")


def change_hard_link_then_write(root: str, target: str) -> None:
    os.link(target, "alias")
    with open("alias", "ab") as file:
        file.write(b"attack\n")


def change_through_symlink(root: str, target: str) -> None:
    os.symlink(target, "alias")
    with open("alias", "ab") as file:
        file.write(b"attack\n")


def change_mode(root: str, target: str) -> None:
    os.chmod(target, 0o777)


def change_times(root: str, target: str) -> None:
    os.utime(target, (1, 1), follow_symlinks=False)


def change_attributes(root: str, target: str) -> None:
    os.setxattr(target, "user.attack", b"1")


def change_truncate(root: str, target: str) -> None:
    os.truncate(target, 0)


def change_descriptor_reopened(root: str, target: str) -> None:
    held = os.open(target, os.O_RDONLY)
    os.write(os.open(f"/proc/self/fd/{held}", os.O_WRONLY | os.O_APPEND), b"attack\n")


def change_by_temporary(root: str, target: str) -> None:
    """Write beside, rename over: how editors and git itself write."""
    with open(f"{target}.lock", "wb") as file:
        file.write(b"attack\n")
    os.rename(f"{target}.lock", target)


def change_new_sibling(root: str, target: str) -> None:
    """A new file in the protected directory, such as a hook."""
    with open(os.path.join(os.path.dirname(target), "attack"), "wb") as file:
        file.write(b"#!/bin/sh\n")


def change_rename_ancestor(root: str, target: str) -> None:
    os.rename(target.split("/", maxsplit=1)[0], "renamed")


def change_rename_ancestor_exchange(root: str, target: str) -> None:
    call("renameat2", AT_FDCWD, target.split("/", maxsplit=1)[0].encode(), AT_FDCWD, b"deep", RENAME_EXCHANGE)


def change_ancestor_by_symlink(root: str, target: str) -> None:
    """Move the ancestor away and put a symbolic link to a tree of our own in its place."""
    first = target.split("/", maxsplit=1)[0]
    os.rename(first, "renamed")
    os.makedirs("evil/.git/hooks")
    os.symlink("evil", first)


def change_ancestor_mode(root: str, target: str) -> None:
    """Not the ancestor itself, the protected directory: taking its permissions away breaks it as well."""
    os.chmod(os.path.dirname(target) or ".", 0)


def change_workspace_itself(root: str, target: str) -> None:
    """Rename the workspace and put another in its place."""
    here = os.getcwd()
    os.rename(here, f"{here}-renamed")
    os.mkdir(here)


def change_remove_tree(root: str, target: str) -> None:
    done = subprocess.run(["rm", "-rf", target.split("/", maxsplit=1)[0]], check=False, stderr=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(13, "rm could not")


# -- git directories of another shape -------------------------------------------------------------------------------------


def bare_layout(root: str, order: str) -> None:
    """HEAD, objects and refs make any directory a repository; the last piece in each order must be refused."""
    os.mkdir("plain")
    for piece in order.split(","):
        if piece == "HEAD":
            with open("plain/HEAD", "w") as file:
                file.write("ref: refs/heads/main\n")
        else:
            os.mkdir(f"plain/{piece}")
    with open("plain/config", "w") as file:
        file.write("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")


def bare_layout_by_rename(root: str) -> None:
    os.makedirs("parts/o")
    os.makedirs("parts/r")
    os.mkdir("plain")
    with open("plain/h", "w") as file:
        file.write("ref: refs/heads/main\n")
    os.rename("parts/o", "plain/objects")
    os.rename("parts/r", "plain/refs")
    os.rename("plain/h", "plain/HEAD")


def bare_layout_by_links(root: str) -> None:
    os.mkdir("plain")
    os.makedirs("store/o")
    os.makedirs("store/r")
    os.symlink("../store/o", "plain/objects")
    os.symlink("../store/r", "plain/refs")
    os.symlink("refs/heads/main", "plain/HEAD")


def bare_layout_joined(root: str) -> None:
    """Two halves, each harmless, joined by renaming a directory over an empty one."""
    os.makedirs("half/objects")
    os.makedirs("half/refs")
    with open("head", "w") as file:
        file.write("ref: refs/heads/main\n")
    os.link("head", "half/HEAD")


def git_init(root: str, *arguments: str) -> None:
    done = subprocess.run(["git", "init", "-q", *arguments], check=False, stderr=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(13, "git init could not")


def git_worktree_pointer(root: str) -> None:
    """A ``.git`` file that leads to a directory of the attacker's own."""
    os.makedirs("fakegit/hooks")
    with open("directory/.git", "w") as file:
        file.write("gitdir: ../fakegit\n")


# -- races ----------------------------------------------------------------------------------------------------------------


def _race(target: str, innocent: str, act: str, seconds: float) -> None:  # noqa: C901 — one branch for each way to make a name
    """One thread flips the path between an innocent and a protected name of the same length while another makes calls."""
    assert len(target) == len(innocent)
    path = ctypes.create_string_buffer(target.encode() + b"\0")
    good, bad = innocent.encode(), target.encode()
    where = ctypes.addressof(path)
    stop = threading.Event()

    def flip() -> None:
        move = ctypes.memmove
        length = len(bad)
        while not stop.is_set():
            for _ in range(200):
                move(where, bad, length)
                move(where, good, length)

    flipper = threading.Thread(target=flip)
    flipper.start()
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until and not os.path.lexists(target):
            if act == "open":
                descriptor = LIBC.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
                if descriptor >= 0:
                    os.close(descriptor)
                    LIBC.unlink(good)
            elif act == "mkdir":
                if LIBC.mkdir(path, 0o755) == 0:
                    LIBC.rmdir(good)
            elif act == "rename":
                LIBC.mkdir(b"seed", 0o755)
                if LIBC.rename(b"seed", path) == 0:
                    LIBC.rmdir(good)
            elif act == "symlink":
                if LIBC.symlink(b"directory", path) == 0:
                    LIBC.unlink(good)
            elif act == "link" and LIBC.link(b"file", path) == 0:
                LIBC.unlink(good)
    finally:
        stop.set()
        flipper.join()
    if not os.path.lexists(target):
        raise OSError(1, "the race was not won")
    say("won")


def race(root: str, act: str, seconds: str) -> None:
    _race(".codex", "xcodex", act, float(seconds))


def race_directory_swap(root: str, seconds: str) -> None:
    """Swap the parent between a plain directory and a symbolic link to outside while creating below it."""
    os.mkdir("flip-a")
    os.symlink(f"{root}/outside", "flip-b")
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            try:
                call("renameat2", AT_FDCWD, b"flip-a", AT_FDCWD, b"flip-b", RENAME_EXCHANGE)
            except OSError:
                continue

    flipper = threading.Thread(target=flip)
    flipper.start()
    until = time.monotonic() + float(seconds)
    try:
        while time.monotonic() < until and not os.path.lexists(f"{root}/outside/raced"):
            for make in (lambda: os.mkdir("flip-a/raced"), lambda: os.rename("seed", "flip-a/raced"), lambda: os.rmdir("flip-b/raced")):
                try:
                    os.makedirs("seed", exist_ok=True)
                    make()
                except OSError:
                    continue
    finally:
        stop.set()
        flipper.join()
    if not os.path.lexists(f"{root}/outside/raced"):
        raise OSError(1, "the race was not won")


def race_directory_moves(root: str, seconds: str) -> None:
    """Move a held directory up and down while creating ``.git`` below it: the checked place and the used one must be the same."""
    os.makedirs("moving/inner")
    held = os.open("moving/inner", os.O_RDONLY | os.O_DIRECTORY)
    stop = threading.Event()

    def move() -> None:
        while not stop.is_set():
            try:
                os.rename("moving/inner", "inner")
                os.rename("inner", "moving/inner")
            except OSError:
                continue

    mover = threading.Thread(target=move)
    mover.start()
    until = time.monotonic() + float(seconds)
    made = False
    try:
        while time.monotonic() < until and not made:
            try:
                os.mkdir(".git", dir_fd=held)
                made = True
            except OSError:
                continue
    finally:
        stop.set()
        mover.join()
    if not made:
        raise OSError(1, "the race was not won")


if __name__ == "__main__":
    main(globals())
