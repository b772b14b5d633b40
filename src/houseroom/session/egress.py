"""Starting the egress proxy of a sandbox: a process of ours on the host, which hears what is said inside and ends with it.

It is forked from the process that has the sandbox, and nobody's child, so nobody must wait for it. It imports its own code while the
first command is already running: a connection waits in a backlog until it is answered.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import marshal
import os

from houseroom.bundle import hold
from houseroom.enforce.linux import landlock_sys, process_sys
from houseroom.enforce.linux.limits_sys import raise_open_files
from houseroom.plan import landlock
from houseroom.session import ledger, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from houseroom.enforce.linux.launch import Cradle
    from houseroom.policy.denials import Denial
    from houseroom.policy.model import Policy
    from houseroom.policy.traffic import Traffic

_SETTINGS, _KEYS = frozenset(("network.reach", "network.upstream")), frozenset(("network.allow", "network.deny"))
_DIRECT, _UPSTREAM = b"-", b"u"  # what rules begin with: whether the host's own proxy is used


def rules_of(policy: Policy) -> bytes:
    """What of a policy the proxy decides by, as bytes that are kept and passed on; none where it does not reach listed hosts."""
    from houseroom.policy.connect import takes_upstream

    reach = policy.setting("network.reach")
    if reach is None or reach.value != "listed":
        return b""
    strata = tuple(
        stratum.with_(
            rules=tuple(rule for rule in stratum.rules if rule.key in _KEYS),
            settings={key: setting for key, setting in stratum.settings.items() if key in _SETTINGS},
        )
        for stratum in policy.strata
    )
    by = _UPSTREAM if takes_upstream(policy) else _DIRECT
    return by + marshal.dumps(request.plain_policy(policy.with_(strata=strata, floor=())))


def policy_of(rules: bytes) -> Policy:
    """The policy that the proxy decides by."""
    return request.policy_of(marshal.loads(memoryview(rules)[1:]))


def proxies_of_host(rules: bytes, environ: Mapping[bytes, bytes]) -> dict[str, str]:
    """What ``upstream.given`` says, where hosts are listed. Raises SetupFailed as it does."""
    if not rules:
        return {}
    from houseroom.session import upstream

    return upstream.given(environ, used=rules[:1] == _UPSTREAM)


def start(cradle: Cradle, rules: bytes, proxies: dict[str, str]) -> int:
    """The proxy of a sandbox that stands. Returns the descriptor of its ledger, for ``refusals`` and ``account``."""
    listeners = tuple(cradle.descriptor() for _ in range(3))
    told = ledger.make()
    ends = (process_sys.pidfd_open(os.getpid()), process_sys.pidfd_open(cradle.init))
    try:
        pid = os.fork()
        if pid == 0:
            try:
                _become_proxy(rules, proxies, listeners, ends, told)
            finally:
                os._exit(1)
        process_sys.move_away(pid)
        process_sys.reap(pid)
    finally:
        for fd in (*listeners, *ends):
            os.close(fd)
    return told


def refusals(told: int) -> tuple[Denial, ...]:
    """What the proxy has refused since it was last asked."""
    from houseroom.policy.denials import Denial

    found = []
    for line in ledger.refusals(told):
        what, reason, rule, origin, allow, *_ = [*line.split("\t"), "", "", "", "", ""]
        grant, obstacle = (tuple(allow.split(" ", 1)), "") if allow else ((), "no option of yours allows it")
        found.append(Denial("connect", what, rule, origin, reason, grant, obstacle, (what,)))
    return tuple(found)


def account(told: int) -> tuple[tuple[Denial, ...], tuple[Traffic, ...]]:
    """What the proxy has refused since it was last asked, and what has been reached by it at all."""
    return refusals(told), ledger.reached(told)


def _become_proxy(rules: bytes, proxies: dict[str, str], listeners: tuple[int, ...], ends: tuple[int, ...], tell: int) -> NoReturn:
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    _own_signals()
    raise_open_files()  # two for each connection
    process_sys.empty_streams()
    process_sys.close_except(3, *listeners, *ends, tell, *hold(()))
    from houseroom.session.proxy.server import serve  # while root may still read what is only others'

    _drop_rights()
    serve(policy_of(rules), proxies, listeners, ends, tell)
    os._exit(0)


def _drop_rights() -> None:
    """It reads what hostile programs write: nothing of what the caller may do but to look and to connect. Raises OSError."""
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
