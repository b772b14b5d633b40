"""What user id 0 could still do to the host. The controls only open for writing or write back what is there. First argument: root."""

from __future__ import annotations

import os
import stat

from probe_kit import call, main, show


def _write_back(path: str) -> None:
    """Write the present value again: proves the right, changes nothing."""
    with open(path) as file:
        value = file.read()
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, value.encode())
    os.close(descriptor)


def core_pattern(root: str) -> None:
    """A core pattern starting with ``|`` runs as the host's root."""
    _write_back("/proc/sys/kernel/core_pattern")


def core_pattern_by_proc_root(root: str) -> None:
    _write_back("/proc/self/root/proc/sys/kernel/core_pattern")


def module_loader(root: str) -> None:
    _write_back("/proc/sys/kernel/modprobe")


def kernel_setting(root: str) -> None:
    _write_back("/proc/sys/vm/swappiness")


def kernel_host_name(root: str) -> None:
    _write_back("/proc/sys/kernel/domainname")


def binary_formats(root: str) -> None:
    os.close(os.open("/proc/sys/fs/binfmt_misc/register", os.O_WRONLY))


def sysrq(root: str) -> None:
    """Opened, never written to."""
    os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))


def device_setting(root: str) -> None:
    _write_back("/sys/block/vda/queue/read_ahead_kb" if os.path.exists("/sys/block/vda") else "/sys/module/printk/parameters/time")


def helper_for_events(root: str) -> None:
    os.close(os.open("/sys/kernel/uevent_helper", os.O_WRONLY))


def device_event(root: str) -> None:
    os.close(os.open("/sys/class/mem/null/uevent", os.O_WRONLY))


def control_group(root: str) -> None:
    for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"):
        try:
            os.mkdir(f"{top}/hrprobe-attack")
        except OSError as error:
            last = error
            continue
        os.rmdir(f"{top}/hrprobe-attack")
        return
    raise last


def interrupt_affinity(root: str) -> None:
    os.close(os.open("/proc/irq/default_smp_affinity", os.O_WRONLY))


def block_device_node(root: str) -> None:
    """A node of our own for the disk that holds the root file system, opened for reading only."""
    device = os.stat(root).st_dev
    os.mknod("disk", stat.S_IFBLK | 0o600, device)
    os.read(os.open("disk", os.O_RDONLY), 512)


def block_device(root: str) -> None:
    device = os.stat(root).st_dev
    for name in os.listdir("/dev"):
        try:
            found = os.stat(f"/dev/{name}")
        except OSError:
            continue
        if stat.S_ISBLK(found.st_mode) and found.st_rdev == device:
            os.read(os.open(f"/dev/{name}", os.O_RDONLY), 512)
            return
    raise OSError(2, "no such device here")


def memory_device_node(root: str) -> None:
    os.mknod("port", stat.S_IFCHR | 0o600, os.makedev(1, 11))  # kmsg
    os.close(os.open("port", os.O_RDONLY | os.O_NONBLOCK))


def character_device_in_tmp(root: str) -> None:
    path = "/tmp/hrprobe-node"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 11))
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    finally:
        os.unlink(path)


def raw_disk_through_shared_memory(root: str) -> None:
    path = "/dev/shm/hrprobe-node"
    os.mknod(path, stat.S_IFBLK | 0o600, os.stat(root).st_dev)
    try:
        os.read(os.open(path, os.O_RDONLY), 512)
    finally:
        os.unlink(path)


def foreign_file(root: str, path: str) -> None:
    """A file of another user, mode 0600: root's privilege over it must not reach inside."""
    with open(path) as file:
        show(file.read())


def shadow(root: str) -> None:
    with open("/etc/shadow") as file:
        show("shadow " + str(len(file.read()) > 0))


def trusted_attribute(root: str) -> None:
    os.setxattr("file", "trusted.attack", b"1")


def capability_on_file(root: str) -> None:
    os.setxattr("file", "security.capability", b"\x01\x00\x00\x02" + b"\xff" * 4 + bytes(12))


def set_user_id_for_host(root: str) -> None:
    """A set-user-id root program left in the workspace would be one on the host."""
    os.chown("file", 0, 0)
    os.chmod("file", 0o4755)


def give_away(root: str) -> None:
    os.chown("file", 12345, 12345)


def immutable(root: str) -> None:
    import array
    import fcntl

    descriptor = os.open("file", os.O_RDONLY)
    flags = array.array("l", [0])
    fcntl.ioctl(descriptor, 0x80086601, flags, True)
    flags[0] |= 0x20  # append only
    fcntl.ioctl(descriptor, 0x40086602, flags)
    flags[0] &= ~0x20
    fcntl.ioctl(descriptor, 0x40086602, flags)


def debug_file_system(root: str) -> None:
    os.listdir("/sys/kernel/debug/tracing") if os.path.exists("/sys/kernel/debug/tracing") else os.listdir("/sys/kernel/debug")
    os.close(os.open("/sys/kernel/security/lsm", os.O_RDONLY))


def kernel_memory(root: str) -> None:
    os.read(os.open("/proc/kcore", os.O_RDONLY), 16)


def kernel_addresses(root: str) -> None:
    with open("/proc/kallsyms") as file:
        first = file.readline()
    if first.startswith("0000000000000000"):
        raise OSError(1, "addresses are hidden")


def kernel_ring(root: str) -> None:
    os.close(os.open("/dev/kmsg", os.O_WRONLY))


def priority(root: str) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -10)


def raise_limits(root: str) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NICE)
    resource.setrlimit(resource.RLIMIT_NICE, (soft, hard))
    call("sethostname", os.uname().nodename.encode(), len(os.uname().nodename))


if __name__ == "__main__":
    main(globals())
