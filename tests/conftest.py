"""Marks that name what a test needs of the host: ``@pytest.mark.needs("userns")``.

A capability is found out by using it, never by a version number. What is missing skips the test by name;
under ``HOUSEROOM_MUST_ENFORCE=1`` it fails instead, so a build that proves nothing can't pass for one that does.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import settings

# A run in the background, by nohup(1) or a shell's &, hands these on ignored, and so does everything that tests start.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

settings.register_profile("untimed", deadline=None)  # how long an example takes says nothing about what is right
settings.load_profile("untimed")

# Run in a child, because a namespace once entered can't be left, and only a process with one thread may enter it.
ENTER_NAMESPACES = """
import ctypes, sys
NEWUSER, NEWNS, NEWPID, NEWNET = 0x10000000, 0x20000, 0x20000000, 0x40000000
sys.exit(ctypes.CDLL(None).unshare(NEWUSER | NEWNS | NEWPID | NEWNET) != 0)
"""
ASK_LANDLOCK_ABI = """
import ctypes, sys
CREATE_RULESET, VERSION = 444, 1  # landlock_create_ruleset(2); the number is the same on every architecture
sys.exit(ctypes.CDLL(None).syscall(CREATE_RULESET, None, 0, VERSION) < 1)
"""
LISTEN_TO_SECCOMP = """
import ctypes, platform, sys
SECCOMP = {"x86_64": 317, "aarch64": 277}[platform.machine()]
GET_NOTIF_SIZES = 3
sys.exit(ctypes.CDLL(None).syscall(SECCOMP, GET_NOTIF_SIZES, 0, (ctypes.c_uint16 * 3)()) != 0)
"""


def child_succeeds(program: str) -> bool:
    return subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, check=False).returncode == 0


def command(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


CAPABILITIES: dict[str, Callable[[], bool]] = {
    "linux": lambda: sys.platform == "linux",
    "root": lambda: os.geteuid() == 0,
    "userns": functools.partial(child_succeeds, ENTER_NAMESPACES),
    "landlock": functools.partial(child_succeeds, ASK_LANDLOCK_ABI),
    "seccomp_notify": functools.partial(child_succeeds, LISTEN_TO_SECCOMP),
    **{name: command(name) for name in ("git", "gcc", "gdb", "make", "node", "npm")},
}


@functools.cache
def available(capability: str) -> bool:
    return CAPABILITIES[capability]()


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    for mark in request.node.iter_markers("needs"):
        for capability in mark.args:
            if available(capability):
                continue
            if os.environ.get("HOUSEROOM_MUST_ENFORCE") == "1":
                pytest.fail(f"HOUSEROOM_MUST_ENFORCE=1 and this host lacks {capability}")
            pytest.skip(f"needs {capability}")
