"""What init and those around it say to each other: nobody waits for one who does not listen, and no signal is lost on the way."""

from __future__ import annotations

import json

import pytest
from runner import Bench

pytestmark = pytest.mark.needs("userns")

# A socket that nobody reads, filled until not another byte goes in. Whoever waits there is told so by the kernel after a moment.
FULL = """
import os, socket, struct, sys
from houseroom.enforce.linux import wire
ours, theirs = socket.socketpair()
wire.notify(ours.fileno(), wire.LIMIT, 1)
print("heard", wire.receive_status(theirs.fileno()) == (wire.LIMIT, 1))
ours.setblocking(False)
try:
    while True:
        ours.send(bytes(1 << 16))
except BlockingIOError:
    pass
try:
    while True:
        ours.send(b"x")
except BlockingIOError:
    pass
ours.setblocking(True)
ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 200_000))
for say in (wire.send_status, wire.notify):
    try:
        say(ours.fileno(), wire.LIMIT, 1)
        print("went on")
    except BlockingIOError:
        print("waited")
"""


def test_init_does_not_wait_for_one_who_does_not_read(bench: Bench) -> None:
    """What commands can make it say any number of times is said no more then. The twin is a word that must arrive."""
    argv = [bench.identity.python, "-c", FULL]
    outcome = bench.run(argv, inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
    assert (outcome.out.splitlines(), outcome.err) == (["heard True", "waited", "went on"], ""), outcome


# The process that becomes the command, up to the moment at which it says that it is locked; then what it would do about signals.
LOCKED = """
import json, os, signal, socket, sys
from houseroom.enforce.linux.command import become, lock
ignored = (signal.SIGUSR2,)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)  # as init has them
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
order = {"argv": [b"true"], "environment": {}, "cwd": b"/", "filters": {}}
for way in ("become", "only locked"):
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        if way == "become":
            become(order, (), theirs, umask=0o22, ignored=ignored, settle=lambda: None)
        lock(order, (), theirs, umask=0o22, cwd=b"/")
        os._exit(0)
    theirs.close()
    assert ours.recv(99) == b"L"
    with open(f"/proc/{child}/status") as lines:
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    print(json.dumps([way, *(int(fields[name], 16) for name in ("SigIgn", "SigBlk"))]))
    ours.close()
    os.waitpid(child, 0)
"""


def test_a_command_that_is_locked_loses_no_signal(bench: Bench) -> None:
    """When it says so, init passes signals on to it: by then it heeds what its caller heeds. The twin has only taken on the locks."""
    argv = [bench.identity.python, "-c", LOCKED]
    outcome = bench.run(argv, inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
    assert (outcome.status, outcome.err) == (0, ""), outcome
    found = {way: (ignored, blocked) for way, ignored, blocked in map(json.loads, outcome.out.splitlines())}
    term, hup, usr1, usr2 = (1 << number - 1 for number in (15, 1, 10, 12))
    assert found["only locked"][0] & (term | hup | usr1 | usr2) == term | hup | usr1 | usr2
    assert found["only locked"][1] & term
    assert found["become"][0] & (term | hup | usr1 | usr2) == usr2
    assert found["become"][1] == 0
