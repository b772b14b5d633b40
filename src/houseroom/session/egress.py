"""Starting the egress proxy of a sandbox: a process of ours on the host, which hears what is said inside and ends with it.

It is forked from the process that has the sandbox, and nobody's child, so nobody must wait for it. It imports its own code while the
first command is already running: a connection waits in a backlog until it is answered.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import marshal
import os

from houseroom.enforce.linux import process_sys
from houseroom.session import apart, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from houseroom.enforce.linux.launch import Cradle
    from houseroom.policy.denials import Denial
    from houseroom.policy.model import Policy

_REACH, _KEYS = "network.reach", frozenset(("network.allow", "network.deny"))


def rules_of(policy: Policy) -> bytes:
    """What of a policy the proxy decides by, as bytes that are kept and passed on; none where it does not reach listed hosts."""
    reach = policy.setting(_REACH)
    if reach is None or reach.value != "listed":
        return b""
    strata = tuple(
        stratum.with_(
            rules=tuple(rule for rule in stratum.rules if rule.key in _KEYS),
            settings={key: setting for key, setting in stratum.settings.items() if key == _REACH},
        )
        for stratum in policy.strata
    )
    return marshal.dumps(request.plain_policy(policy.with_(strata=strata, floor=())))


def start(cradle: Cradle, rules: bytes) -> int:
    """The proxy of a sandbox that stands. Returns the descriptor at which it tells what it refused, for ``refusals``."""
    listeners = tuple(cradle.descriptor() for _ in range(3))
    hear, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    ends = apart.ends_of(cradle)
    try:
        pid = os.fork()
        if pid == 0:
            try:
                _become_proxy(rules, listeners, ends, tell)
            finally:
                os._exit(1)
        process_sys.move_away(pid)
        process_sys.reap(pid)
    finally:
        for fd in (*listeners, *ends, tell):
            os.close(fd)
    return hear


def refusals(told: int) -> tuple[Denial, ...]:
    """What the proxy has refused since it was last asked."""
    from houseroom.policy.denials import Denial

    data = b""
    try:
        while part := os.read(told, 1 << 16):
            data += part
    except BlockingIOError:
        pass  # it is still there, and has nothing more to tell
    found = []
    for line in data.decode("utf-8", "replace").splitlines():
        what, reason, rule, origin, allow, *_ = [*line.split("\t"), "", "", "", "", ""]
        grant, obstacle = (("--allow", allow), "") if allow else ((), "no option of yours allows it")
        found.append(Denial("connect", what, rule, origin, reason, grant, obstacle, (what,)))
    return tuple(found)


def _become_proxy(rules: bytes, listeners: tuple[int, ...], ends: tuple[int, ...], tell: int) -> NoReturn:
    if os.fork():
        os._exit(0)
    apart.settle(*listeners, *ends, tell)
    from houseroom.session.proxy.server import serve  # while root may still read what is only others'

    apart.drop_rights()
    serve(request.policy_of(marshal.loads(rules)), listeners, ends, tell)
    os._exit(0)
