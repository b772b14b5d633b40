"""Starting the egress proxy of a sandbox: a process of ours on the host, which hears what is said inside and ends with it.

It is forked from the process that has the sandbox, and nobody's child, so nobody must wait for it. It imports its own code while the
first command is already running: a connection waits in a backlog until it is answered.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import marshal
import os

from houseroom.enforce.linux import process_sys, wire
from houseroom.errors import SetupFailed
from houseroom.session import apart, ledger, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from houseroom.enforce.linux.launch import Cradle
    from houseroom.policy.credentials import Swap
    from houseroom.policy.denials import Denial
    from houseroom.policy.model import Policy
    from houseroom.policy.traffic import Traffic

_SETTINGS, _KEYS = frozenset(("network.reach", "network.upstream")), frozenset(("network.allow", "network.deny", "network.credentials"))
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


def bear(rules: bytes, library: str, verifying: bytes, swaps: tuple[Swap, ...], proxies: dict[str, str]) -> tuple[int, bytes]:
    """A proxy that looks into connections. It is born before its sandbox, which is to trust the authority that it makes.

    ``library``: where the extra lies, as ``extra.find`` says. ``verifying``: whom servers are verified by, in PEM. ``swaps``: the
    credentials that it puts in. Returns the way to it, for ``start``, and the authority's certificate in PEM. It ends where that way is
    closed instead. Raises SetupFailed.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    line, inner = ours.detach(), theirs.detach()
    try:
        _fork(lambda: _become_inspector(rules, library, verifying, swaps, proxies, inner))
        os.close(inner)
        inner = -1
        said = wire.receive(line)
        if said is None or said[0] != "certificate":
            words = said[1] if said else "it died without a word"
            raise SetupFailed("look into", "encrypted connections", 0, words, "Reinstall the extra: pip install 'houseroom[inspect]'")
    except BaseException:
        os.close(line)
        if inner >= 0:
            os.close(inner)
        raise
    return line, said[1]


def start(cradle: Cradle, rules: bytes, proxies: dict[str, str], line: int = -1) -> int:
    """The proxy of a sandbox that stands. Returns the descriptor of its ledger, for ``refusals`` and ``account``.

    ``line``: the way to one that was born already, which stays the caller's to close.
    """
    listeners = tuple(cradle.descriptor() for _ in range(3))
    told = ledger.make()
    ends = apart.ends_of(cradle)
    try:
        if line >= 0:
            for fd in (*listeners, *ends, told):
                wire.send_descriptor(line, fd)
        else:
            _fork(lambda: _become_proxy(rules, proxies, listeners, ends, told))
    except OSError as error:
        os.close(told)
        raise SetupFailed("start", "the egress proxy", error.errno or 0, error.strerror or str(error)) from error
    finally:
        for fd in (*listeners, *ends):
            os.close(fd)
    return told


def _fork(become: Callable[[], NoReturn]) -> None:
    """A process that is nobody's child. Raises OSError."""
    pid = os.fork()
    if pid == 0:
        try:
            if os.fork():
                os._exit(0)
            become()
        finally:
            os._exit(1)
    process_sys.move_away(pid)
    process_sys.reap(pid)


def refusals(told: int) -> tuple[Denial, ...]:
    """What the proxy has refused since it was last asked. Where it was more than is kept, that comes first."""
    from houseroom.policy.denials import Denial

    lost = ledger.lost(told)
    many = f"{lost} more were refused than are kept of a sandbox", (), "nobody knows any more which they were", (ledger.OTHERS,)
    found = [Denial("connect", ledger.OTHERS, "", "", *many)] if lost else []
    for line in ledger.refusals(told):
        what, reason, rule, origin, allow, *_ = [*line.split("\t"), "", "", "", "", ""]
        grant, obstacle = (tuple(allow.split(" ", 1)), "") if allow else ((), "no option of yours allows it")
        found.append(Denial("connect", what, rule, origin, reason, grant, obstacle, (what,)))
    return tuple(found)


def account(told: int) -> tuple[tuple[Denial, ...], tuple[Traffic, ...]]:
    """What the proxy has refused since it was last asked, and what has been reached by it at all."""
    return refusals(told), ledger.reached(told)


def _become_proxy(rules: bytes, proxies: dict[str, str], listeners: tuple[int, ...], ends: tuple[int, ...], tell: int) -> NoReturn:
    apart.settle(*listeners, *ends, tell)
    from houseroom.session.proxy.server import serve  # while root may still read what is only others'

    apart.drop_rights()
    serve(policy_of(rules), proxies, listeners, ends, tell)
    os._exit(0)


def _become_inspector(
    rules: bytes, library: str, verifying: bytes, swaps: tuple[Swap, ...], proxies: dict[str, str], line: int
) -> NoReturn:
    """The same, with an authority of its own. Its sandbox is heard of later, or never."""
    apart.settle(line)
    policy = policy_of(rules)
    try:
        from houseroom.session import extra

        extra.let_in(library)
        from houseroom.policy.connect import PlacedNetwork
        from houseroom.policy.credentials import credentials
        from houseroom.session.proxy.authority import Authority, outward
        from houseroom.session.proxy.inspecting import Inspector
        from houseroom.session.proxy.server import serve

        authority = Authority((*PlacedNetwork(policy).inspected(), *(each.where for each, _ in credentials(policy))))
        inspector = Inspector(authority, outward(verifying.decode()), swaps)
        apart.drop_rights()
    except (ImportError, OSError, ValueError) as error:
        wire.send(line, ("failed", str(error)))
        os._exit(1)
    wire.send(line, ("certificate", authority.certificate))
    given = [wire.receive_descriptor(line) for _ in range(6)]
    if min(given) < 0:
        os._exit(0)  # it came to no sandbox
    os.close(line)
    serve(policy, proxies, (given[0], given[1], given[2]), (given[3], given[4]), given[5], inspector)
    os._exit(0)
