"""Write outside the workspace, by every call that creates, changes or removes. First argument: the stage's root."""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import socket
import stat
import struct

from probe_kit import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, O_PATH, O_TMPFILE, RENAME_EXCHANGE, RENAME_WHITEOUT, call, main


def _append(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"attack\n")
    os.close(descriptor)


def open_truncate(root: str) -> None:
    os.close(os.open(f"{root}/outside/victim", os.O_WRONLY | os.O_TRUNC))


def open_append(root: str) -> None:
    _append(f"{root}/outside/victim")


def open_read_write(root: str) -> None:
    descriptor = os.open(f"{root}/outside/victim", os.O_RDWR)
    os.pwrite(descriptor, b"X", 0)


def shell_start_file(root: str) -> None:
    _append(f"{root}/home/.bashrc")


def git_user_config(root: str) -> None:
    _append(f"{root}/home/.gitconfig")


def program_on_path(root: str) -> None:
    _append(f"{root}/home/.local/bin/tool")


def new_autostart(root: str) -> None:
    os.makedirs(f"{root}/home/.config/autostart")


def shared_cache(root: str) -> None:
    _append(f"{root}/home/.cache/tool/blob")


def create(root: str) -> None:
    os.close(os.open(f"{root}/outside/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def create_in_home(root: str) -> None:
    os.close(os.open(f"{root}/home/new", os.O_WRONLY | os.O_CREAT))


def creat_call(root: str) -> None:
    call("creat", f"{root}/outside/new".encode(), 0o644)


def mkdir(root: str) -> None:
    os.mkdir(f"{root}/outside/new")


def rmdir(root: str) -> None:
    os.rmdir(f"{root}/outside/empty")


def unlink(root: str) -> None:
    os.unlink(f"{root}/outside/victim")


def rename_within(root: str) -> None:
    os.rename(f"{root}/outside/victim", f"{root}/outside/moved")


def rename_out(root: str) -> None:
    os.rename("file", f"{root}/outside/victim")


def rename_in(root: str) -> None:
    os.rename(f"{root}/outside/victim", "stolen")


def rename_exchange(root: str) -> None:
    call("renameat2", AT_FDCWD, b"file", AT_FDCWD, f"{root}/outside/victim".encode(), RENAME_EXCHANGE)


def rename_whiteout(root: str) -> None:
    call("renameat2", AT_FDCWD, f"{root}/outside/victim".encode(), AT_FDCWD, f"{root}/outside/moved".encode(), RENAME_WHITEOUT)


def link_out(root: str) -> None:
    os.link("file", f"{root}/outside/linked")


def link_in_then_write(root: str) -> None:
    os.link(f"{root}/outside/victim", "alias")
    _append("alias")


def link_in_by_descriptor(root: str) -> None:
    descriptor = os.open(f"{root}/outside/victim", os.O_RDONLY)
    call("linkat", AT_FDCWD, f"/proc/self/fd/{descriptor}".encode(), AT_FDCWD, b"alias", AT_SYMLINK_FOLLOW)
    _append("alias")


def symlink_out(root: str) -> None:
    os.symlink("x", f"{root}/outside/link")


def write_through_symlink(root: str) -> None:
    os.symlink(f"{root}/outside", "way")
    _append("way/victim")


def create_through_dangling_symlink(root: str) -> None:
    os.symlink(f"{root}/outside/new", "dangling")
    os.close(os.open("dangling", os.O_WRONLY | os.O_CREAT))


def mkdir_through_symlink(root: str) -> None:
    os.symlink(f"{root}/outside", "way")
    os.mkdir("way/new")


def rename_through_symlink(root: str) -> None:
    os.symlink(f"{root}/outside", "way")
    os.rename("file", "way/new")


def mkfifo_out(root: str) -> None:
    os.mkfifo(f"{root}/outside/pipe")


def mknod_out(root: str) -> None:
    os.mknod(f"{root}/outside/node", stat.S_IFREG | 0o644)


def bind_socket_out(root: str) -> None:
    os.chdir(f"{root}/outside")
    socket.socket(socket.AF_UNIX).bind("made.sock")


def truncate_path(root: str) -> None:
    os.truncate(f"{root}/outside/victim", 0)


def temporary_then_link(root: str) -> None:
    descriptor = os.open(f"{root}/outside", os.O_WRONLY | O_TMPFILE, 0o600)
    call("linkat", AT_FDCWD, f"/proc/self/fd/{descriptor}".encode(), AT_FDCWD, f"{root}/outside/new".encode(), AT_SYMLINK_FOLLOW)


def temporary_here_link_there(root: str) -> None:
    descriptor = os.open(".", os.O_WRONLY | O_TMPFILE, 0o600)
    call("linkat", AT_FDCWD, f"/proc/self/fd/{descriptor}".encode(), AT_FDCWD, f"{root}/outside/new".encode(), AT_SYMLINK_FOLLOW)


def by_proc_root(root: str) -> None:
    _append(f"/proc/self/root{root}/outside/victim")


def by_proc_cwd(root: str) -> None:
    _append("/proc/self/cwd/../../outside/victim")


def by_thread_proc(root: str) -> None:
    _append(f"/proc/thread-self/root{root}/outside/victim")


def by_dots(root: str) -> None:
    _append("./.././/.//../outside/./victim")


def by_directory_descriptor(root: str) -> None:
    directory = os.open(f"{root}/outside", os.O_RDONLY | os.O_DIRECTORY)
    os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=directory)


def by_path_descriptor(root: str) -> None:
    held = os.open(f"{root}/outside/victim", O_PATH)
    _append(f"/proc/self/fd/{held}")


def by_openat2(root: str) -> None:
    how = struct.pack("QQQ", os.O_WRONLY | os.O_CREAT, 0o644, 0)
    call("openat2", AT_FDCWD, f"{root}/outside/new".encode(), how, len(how))


def reopen_read_only_descriptor(root: str) -> None:
    held = os.open(f"{root}/outside/victim", os.O_RDONLY)
    os.write(os.open(f"/proc/self/fd/{held}", os.O_WRONLY), b"X")


def map_shared(root: str) -> None:
    descriptor = os.open(f"{root}/outside/victim", os.O_RDWR)
    with mmap.mmap(descriptor, 4) as view:
        view[0:1] = b"X"


def copy_range(root: str) -> None:
    source, target = os.open("file", os.O_RDONLY), os.open(f"{root}/outside/victim", os.O_WRONLY)
    os.copy_file_range(source, target, 7)


def change_directory_then_create(root: str) -> None:
    os.chdir(f"{root}/outside")
    os.close(os.open("new", os.O_WRONLY | os.O_CREAT))


def chmod(root: str) -> None:
    os.chmod(f"{root}/outside/victim", 0o777)


def chmod_directory(root: str) -> None:
    os.chmod(f"{root}/outside", 0o777)


def fchmod_read_only_descriptor(root: str) -> None:
    os.fchmod(os.open(f"{root}/outside/victim", os.O_RDONLY), 0o777)


def fchmodat(root: str) -> None:
    call("fchmodat", os.open(f"{root}/outside", os.O_RDONLY), b"victim", 0o777)


def fchmodat2_empty_path(root: str) -> None:
    call("fchmodat2", os.open(f"{root}/outside/victim", O_PATH), b"", 0o777, AT_EMPTY_PATH)


def chmod_by_proc(root: str) -> None:
    held = os.open(f"{root}/outside/victim", O_PATH)
    os.chmod(f"/proc/self/fd/{held}", 0o777)


def chown(root: str) -> None:
    os.chown(f"{root}/outside/victim", os.getuid(), os.getgid())


def lchown(root: str) -> None:
    os.lchown(f"{root}/outside/victim", os.getuid(), os.getgid())


def fchown(root: str) -> None:
    os.fchown(os.open(f"{root}/outside/victim", os.O_RDONLY), os.getuid(), os.getgid())


def utime(root: str) -> None:
    os.utime(f"{root}/outside/victim", (1, 1))


def futimens_read_only_descriptor(root: str) -> None:
    os.utime(os.open(f"{root}/outside/victim", os.O_RDONLY), (1, 1))


def utime_link(root: str) -> None:
    os.utime(f"{root}/outside/victim", (1, 1), follow_symlinks=False)


def setxattr(root: str) -> None:
    os.setxattr(f"{root}/outside/victim", "user.attack", b"1")


def fsetxattr_read_only_descriptor(root: str) -> None:
    os.setxattr(os.open(f"{root}/outside/victim", os.O_RDONLY), "user.attack", b"1")


def setxattr_access_list(root: str) -> None:
    entry = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, perm, 0xFFFFFFFF) for tag, perm in ((1, 7), (4, 7), (32, 7)))
    os.setxattr(f"{root}/outside/victim", "system.posix_acl_access", entry)


def inode_flags(root: str) -> None:
    descriptor = os.open(f"{root}/outside/victim", os.O_RDONLY)
    flags = array.array("l", [0])
    fcntl.ioctl(descriptor, 0x80086601, flags, True)  # FS_IOC_GETFLAGS
    flags[0] |= 0x40 | 0x80  # nodump, noatime: any owner may set them
    fcntl.ioctl(descriptor, 0x40086602, flags)  # FS_IOC_SETFLAGS


def preallocate(root: str) -> None:
    call("fallocate", os.open(f"{root}/outside/victim", os.O_WRONLY), 0, 0, 8192)


def ftruncate(root: str) -> None:
    os.ftruncate(os.open(f"{root}/outside/victim", os.O_RDWR), 1)


def by_file_handle(root: str) -> None:
    """open_by_handle_at(2) goes round the path walk; it needs CAP_DAC_READ_SEARCH."""
    import ctypes

    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.create_string_buffer(8)
    call("name_to_handle_at", AT_FDCWD, f"{root}/outside/victim".encode(), handle, mount, 0)
    place = os.open(root, os.O_RDONLY)
    os.write(call("open_by_handle_at", place, handle, os.O_WRONLY), b"X")


def inherited_directory(root: str, descriptor: str) -> None:
    """The caller left a descriptor to a host directory open."""
    os.close(os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=int(descriptor)))


def inherited_file(root: str, descriptor: str) -> None:
    os.write(int(descriptor), b"attack\n")


def standard_input_directory(root: str) -> None:
    """A directory given as standard input is passed on purpose, yet it must not open the tree behind it."""
    os.close(os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=9))  # the test moves it there: Python refuses a directory on 0


def standard_input_reopened(root: str) -> None:
    """A file given read-only on standard input, opened again for writing."""
    os.write(os.open("/proc/self/fd/0", os.O_WRONLY), b"attack\n")


def standard_input_chmod(root: str) -> None:
    os.fchmod(0, 0o777)


def standard_input_utime(root: str) -> None:
    os.utime(0, (1, 1))


def standard_input_xattr(root: str) -> None:
    os.setxattr(0, "user.attack", b"1")


def standard_input_parent(root: str) -> None:
    """A directory on standard input: walk up from it."""
    os.close(os.open("../new", os.O_WRONLY | os.O_CREAT, dir_fd=9))


def working_directory_escape(root: str) -> None:
    """chroot(2) without chdir, the old way out."""
    os.mkdir("jail")
    os.chroot("jail")
    for _ in range(40):
        os.chdir("..")
    _append(f".{root}/outside/victim")


if __name__ == "__main__":
    main(globals())
