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
from houseroom.session import apart, ledger, request

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
    ends = apart.ends_of(cradle)
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
    apart.settle(*listeners, *ends, tell)
    from houseroom.session.proxy.server import serve  # while root may still read what is only others'

    apart.drop_rights()
    serve(policy_of(rules), proxies, listeners, ends, tell)
    os._exit(0)
