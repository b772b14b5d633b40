"""What the processes of ours that live beside a sandbox have in common: the egress proxy, and who publishes its ports.

Each is forked from the process that has the sandbox and is nobody's child, so nobody must wait for it. It ends with its sandbox.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os

from houseroom.bundle import hold
from houseroom.enforce.linux import landlock_sys, process_sys
from houseroom.enforce.linux.limits_sys import raise_open_files
from houseroom.plan import landlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.launch import Cradle


def ends_of(cradle: Cradle) -> tuple[int, int]:
    """Descriptors of the processes with which a sandbox ends: ours, and its init."""
    return process_sys.pidfd_open(os.getpid()), process_sys.pidfd_open(cradle.init)


def settle(*kept: int) -> None:
    """In the forked process: nothing of the caller's stays but these descriptors, and what the package's code is read from."""
    os.setsid()
    os.chdir("/")
    _own_signals()
    raise_open_files()  # two for each connection
    process_sys.empty_streams()
    process_sys.close_except(3, *kept, *hold(()))


def drop_rights() -> None:
    """It carries what hostile programs write: nothing of what the caller may do but to look and to connect. Raises OSError."""
    process_sys.prctl(process_sys.PR_SET_NO_NEW_PRIVS, 1)
    process_sys.capset(0)
    process_sys.prctl(process_sys.PR_SET_DUMPABLE, 0)
    abi = landlock_sys.abi()
    if abi:
        ruleset = landlock_sys.create_ruleset((landlock.bits(landlock.WRITING, abi), 0, 0), abi)
        landlock_sys.restrict_self(ruleset)
        os.close(ruleset)


def _own_signals() -> None:
    """What the caller does about signals is its own matter; who is gone while we write to them is an error, and no end of ours."""
    _signal.set_wakeup_fd(-1)  # a descriptor of the caller's, whose number is soon one of ours
    for number in _signal.valid_signals():
        if callable(_signal.getsignal(number)):
            _signal.signal(number, _signal.SIG_DFL)
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
