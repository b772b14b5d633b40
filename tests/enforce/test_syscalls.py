"""Calls that a developer's command has no use for are refused, in every entry and spelling."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator

import pytest
from runner import Bench, Said

pytestmark = pytest.mark.needs("userns")

# Attack → who has a working control: "any" user, "root", or "none" where the kernel here lacks the feature.
ATTACKS = {
    "terminal_input": "root", "terminal_input_high_bits": "root", "terminal_input_all_high_bits": "root",
    "console_paste": "any", "console_paste_high_bits": "any",
    "io_uring_setup": "any", "second_thread_unfiltered": "any",
    "family_crypto": "none", "family_vsock": "any", "family_packet": "root", "family_netlink_audit": "any",
    "family_netlink_netfilter": "any", "family_netlink_kobject": "any", "family_xdp": "none", "family_bluetooth": "none",
    "raw_internet": "root",
    "add_key": "any", "keyctl_session": "any", "bpf": "root", "userfaultfd": "any", "perf_event_open": "any", "fanotify": "any",
    "new_user_namespace": "any", "new_user_namespace_clone": "any", "new_user_namespace_clone3": "any",
    "new_user_namespace_in_thread_group": "any", "new_mount_namespace": "root", "new_network_namespace": "root",
    "new_time_namespace": "root", "enter_own_namespace": "root",
    "mount_tmpfs": "root", "mount_bind": "root", "remount_writable": "root", "fsopen": "root", "open_tree_clone": "root",
    "open_tree_plain": "any", "mount_setattr": "root", "fspick": "root", "change_root": "root",
    "x32_entry": "none", "host_name": "root", "clock": "root", "kernel_log": "root", "kernel_log_device": "root", "accounting": "root",
    "modules": "none", "port_access": "none", "quota": "none", "swap": "root",
}  # fmt: skip


def works(bench: Bench, who: str) -> bool | str:
    return True if who == "any" or (who == "root" and bench.identity.uid == 0) else f"its control needs {who}"


@pytest.mark.parametrize("attack", ATTACKS)
def test_call_is_refused(bench: Bench, attack: str) -> None:
    bench.twin(bench.probe("attack_syscalls", attack), Said("DONE"), control=works(bench, ATTACKS[attack]))


def test_32_bit_entry(bench: Bench) -> None:
    program = bench.identity.base / "bin/int80"
    if not program.exists() or os.uname().machine != "x86_64":
        pytest.skip("needs gcc on x86_64")
    bench.twin([str(program)], Said("DONE"), ran="")


KEEPER = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
token, key, name = sys.argv[1].encode(), int(sys.argv[2]), sys.argv[3].encode()
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(key, 4096, 0o1600)
address = libc.shmat(segment, None, 0)
ctypes.memmove(address, token + bytes(1), len(token) + 1)
queue = libc.msgget(key, 0o1600)
message = ctypes.create_string_buffer(struct.pack("l", 1) + token)
for _ in range(8):
    assert libc.msgsnd(queue, message, len(token), 0o4000) == 0
libc.mq_open.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
attributes = ctypes.create_string_buffer(struct.pack("llll", 0, 8, 256, 0) + bytes(32))
posix = libc.mq_open(b"/" + name, 0o2 | 0o100, 0o600, attributes)
for _ in range(8):
    assert libc.mq_send(posix, token, len(token), 0) == 0
add_key, keyctl = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
stored = libc.syscall(ctypes.c_long(add_key), b"user", name, token, ctypes.c_long(len(token)), ctypes.c_long(-4))
libc.syscall(ctypes.c_long(keyctl), ctypes.c_long(5), ctypes.c_long(stored), ctypes.c_long(0x3f3f0000))
open("/dev/shm/" + name.decode(), "wb").write(token)
print(segment, queue, posix, stored, flush=True)
sys.stdin.readline()
print(ctypes.string_at(address + 128, 6), flush=True)
libc.shmctl(segment, 0, None); libc.msgctl(queue, 0, None); libc.mq_unlink(b"/" + name)
libc.syscall(ctypes.c_long({"x86_64": 250, "aarch64": 219}[os.uname().machine]), ctypes.c_long(9), ctypes.c_long(stored), ctypes.c_long(-4))
os.unlink("/dev/shm/" + name.decode())
"""


class Keeper:
    """A process of the host that keeps System V, POSIX and keyring objects holding the token."""

    def __init__(self, bench: Bench):
        self.key = secrets.randbelow(1 << 30) + 1
        self.name = f"hrprobe{self.key}"
        self.process = bench.start(
            [bench.identity.python, "-S", "-c", KEEPER, bench.stage.token, str(self.key), self.name], inside=False, stdin=subprocess.PIPE
        )
        assert self.process.stdout
        said = self.process.stdout.readline().decode()
        assert said, self.process.communicate()
        self.segment, self.queue, self.posix, self.stored = (int(word) for word in said.split())

    def end(self) -> str:
        """What was written into the shared segment."""
        return self.process.communicate(b"end\n", timeout=20)[0].decode()


@pytest.fixture
def keeper(bench: Bench) -> Iterator[Keeper]:
    made = Keeper(bench)
    yield made
    if made.process.poll() is None:
        made.end()


@pytest.mark.parametrize("attack", ["shared_memory_read", "message_queue_read"])
def test_system_v_objects_of_the_host(bench: Bench, keeper: Keeper, attack: str) -> None:
    argument = keeper.segment if attack == "shared_memory_read" else keeper.queue
    bench.twin(bench.probe("attack_syscalls", attack, argument), bench.leak())


def test_system_v_object_by_its_key(bench: Bench, keeper: Keeper) -> None:
    bench.twin(bench.probe("attack_syscalls", "shared_memory_by_key", keeper.key), bench.leak())


def test_system_v_segment_is_not_written(bench: Bench) -> None:
    for inside in (False, True):
        keeper = Keeper(bench)
        outcome = bench.run(bench.probe("attack_syscalls", "shared_memory_write", keeper.segment), inside=inside)
        assert "probe: " in outcome.out, outcome
        assert ("attack" in keeper.end()) != inside, outcome


def test_posix_queue_of_the_host(bench: Bench, keeper: Keeper) -> None:
    bench.twin(bench.probe("attack_syscalls", "posix_queue_read", keeper.name), bench.leak())


def test_shared_memory_file_of_the_host(bench: Bench, keeper: Keeper) -> None:
    bench.twin(bench.probe("attack_syscalls", "host_shared_memory_file", keeper.name), bench.leak())


def test_keyring_of_the_host_user(bench: Bench, keeper: Keeper) -> None:
    bench.twin(bench.probe("attack_syscalls", "read_host_key_by_id", keeper.name, keeper.stored), bench.leak())


def test_keyring_search(bench: Bench, keeper: Keeper) -> None:
    """A session keyring that links the user's: searching by name finds the key only where keyctl works at all."""
    bench.twin(bench.probe("attack_syscalls", "read_host_key", keeper.name), bench.leak())


def test_listing_of_keys(bench: Bench, keeper: Keeper) -> None:
    bench.twin(bench.probe("attack_syscalls", "list_keys"), Said(keeper.name))
