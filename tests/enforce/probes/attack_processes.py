"""Reach a process outside, or init. First argument: the stage's root; then the victim's process id (1 inside)."""

from __future__ import annotations

import ctypes
import glob
import os
import resource
import signal
import struct
import sys
import time

from probe_kit import call, main, say, show


def _not_the_hosts(host: str) -> None:
    """Never touch the real process 1: leave where the process id namespace is still the host's."""
    if os.readlink("/proc/self/ns/pid") == host:
        say("ABORTED: the process id namespace is the host's")
        sys.exit(2)


def init_of(root: str, host: str, name: str) -> None:
    """Run another probe of this file against process 1, which must be the sandbox's init."""
    _not_the_hosts(host)
    globals()[name](root, "1")


def kill(root: str, pid: str) -> None:
    os.kill(int(pid), signal.SIGKILL)


def terminate(root: str, pid: str) -> None:
    os.kill(int(pid), signal.SIGTERM)


def kill_group(root: str, pid: str) -> None:
    os.killpg(os.getpgid(int(pid)), signal.SIGKILL)


def queue_signal(root: str, pid: str) -> None:
    number = {"x86_64": 129, "aarch64": 138}[os.uname().machine]
    information = ctypes.create_string_buffer(struct.pack("iii", signal.SIGTERM, 0, -1) + bytes(116))
    call(number, int(pid), int(signal.SIGTERM), information)


def pidfd_signal(root: str, pid: str) -> None:
    descriptor = call("pidfd_open", int(pid), 0)
    call("pidfd_send_signal", descriptor, int(signal.SIGKILL), None, 0)


def pidfd_take_descriptor(root: str, pid: str) -> None:
    """pidfd_getfd(2): take the victim's standard input."""
    descriptor = call("pidfd_open", int(pid), 0)
    for number in (0, 1, 2, 3, 4, 5, 6, 7, 8):
        try:
            call("pidfd_getfd", descriptor, number, 0)
        except OSError as error:
            last = error
        else:
            return
    raise last


def trace_attach(root: str, pid: str) -> None:
    call("ptrace", 16, int(pid), 0, 0)
    os.waitpid(int(pid), 0x40000000)
    call("ptrace", 17, int(pid), 0, 0)


def trace_seize(root: str, pid: str) -> None:
    call("ptrace", 0x4206, int(pid), 0, 0)


def read_memory_call(root: str, pid: str) -> None:
    maps = open(f"/proc/{pid}/maps").read().splitlines()[0]
    start = int(maps.split("-")[0], 16)
    buffer = ctypes.create_string_buffer(16)
    here = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(buffer), 16))
    there = ctypes.create_string_buffer(struct.pack("QQ", start, 16))
    call("process_vm_readv", int(pid), here, 1, there, 1, 0)


def read_environment(root: str, pid: str) -> None:
    show(open(f"/proc/{pid}/environ", "rb").read() or b"empty")


def read_command_line(root: str, pid: str) -> None:
    """The host's command lines, in whatever process is visible."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            show(open(path, "rb").read())
        except OSError:
            continue


def read_every_environment(root: str, pid: str) -> None:
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/task/*/environ"):
        try:
            show(open(path, "rb").read())
        except OSError:
            continue


def read_memory_file(root: str, pid: str) -> None:
    start = int(open(f"/proc/{pid}/maps").read().split("-")[0], 16)
    descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    os.pread(descriptor, 16, start)


def open_memory_file(root: str, pid: str) -> None:
    os.open(f"/proc/{pid}/mem", os.O_RDWR)


def list_descriptors(root: str, pid: str) -> None:
    say(" ".join(os.listdir(f"/proc/{pid}/fd")))


def open_descriptor(root: str, pid: str) -> None:
    for name in ("0", "1", "2", "3", "4", "5"):
        try:
            os.open(f"/proc/{pid}/fd/{name}", os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            last = error
        else:
            return
    raise last


def read_root_link(root: str, pid: str) -> None:
    say(os.readlink(f"/proc/{pid}/root"))


def list_root(root: str, pid: str) -> None:
    os.listdir(f"/proc/{pid}/root/")


def read_working_directory(root: str, pid: str) -> None:
    os.listdir(f"/proc/{pid}/cwd/")


def read_maps(root: str, pid: str) -> None:
    say(open(f"/proc/{pid}/maps").read()[:200] or "empty")


def read_auxiliary_vector(root: str, pid: str) -> None:
    show(open(f"/proc/{pid}/auxv", "rb").read() or b"")


def write_oom_score(root: str, pid: str) -> None:
    with open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write("1000")


def change_limits(root: str, pid: str) -> None:
    resource.prlimit(int(pid), resource.RLIMIT_NOFILE, (10, 10))


def change_niceness(root: str, pid: str) -> None:
    os.setpriority(os.PRIO_PROCESS, int(pid), 19)


def change_affinity(root: str, pid: str) -> None:
    os.sched_setaffinity(int(pid), {0})


def enter_namespaces(root: str, pid: str) -> None:
    descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    call("setns", descriptor, 0)


def enter_user_namespace(root: str, pid: str) -> None:
    os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)


def daemon(root: str) -> None:
    """Double fork, own session; writes a heartbeat and its host-independent mark into the workspace."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open("/dev/null", os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            with open("daemon.pid", "w") as file:
                file.write(str(os.getpid()))
            until = time.monotonic() + 30
            while time.monotonic() < until:
                with open("beat", "a") as file:
                    file.write(".")
                time.sleep(0.02)
        os._exit(0)
    os.wait()
    until = time.monotonic() + 5
    while not os.path.exists("beat") and time.monotonic() < until:
        time.sleep(0.01)


def daemon_ignoring_signals(root: str) -> None:
    for number in set(range(1, 65)) - {signal.SIGCHLD}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    daemon(root)


def daemon_then_wait(root: str) -> None:
    daemon(root)
    say("READY")
    time.sleep(30)


def survive_init_kill(root: str, host: str) -> None:
    """Everything that might end init, one after the other; being able to say SURVIVED means it lives."""
    _not_the_hosts(host)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSEGV, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        try:
            os.kill(1, number)
        except OSError:
            continue
    time.sleep(0.1)
    with open("survived", "w") as file:
        file.write("yes")
    say("SURVIVED")


def status(root: str) -> None:
    show(open("/proc/self/status").read())
    say("descriptors: " + " ".join(sorted(set(os.listdir("/proc/self/fd")) - _own_listing())))


def _own_listing() -> set[str]:
    """The descriptor that listing the directory takes is the lowest free one."""
    probe = os.open("/", os.O_RDONLY)
    os.close(probe)
    return {str(probe)}


def processes(root: str) -> None:
    say("processes: " + " ".join(sorted((name for name in os.listdir("/proc") if name.isdigit()), key=int)))


def parent_chain(root: str) -> None:
    say(f"parent {os.getppid()} {sys.version_info[0]}")


if __name__ == "__main__":
    main(globals())
