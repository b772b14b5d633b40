"""Whether listed hosts work here: a sandbox that may reach one name of a server of doctor's own, and no other.

No network is needed. The names are below ``localhost``, which no resolver outside is asked for (RFC 6761, section 6.3); they lead to the
host's loopback, and the policy lists that address at the server's port.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
import socket
from errno import EACCES
from threading import Thread

from houseroom.policy.model import Origin, Rule, Setting
from houseroom.session.mechanisms import MISSING, UNUSED, WORKS, Check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from houseroom.policy.model import Policy
    from houseroom.session.sandbox import Prepared
    from houseroom.session.trials import Answer, Answers

NAME = "egress proxy"
_LISTED, _OTHER = "listed.localhost", "other.localhost"
_ALLOWED = (_LISTED, "127.0.0.1")
_NOWHERE = "192.0.2.1"  # of documents (RFC 5737): a connection that is not refused inside is one to nobody
_TOKEN = 32  # characters
_PATIENCE = 5  # seconds for a client of the server


def check(prepared: Prepared, play: Callable[[Policy, list[tuple[object, ...]]], tuple[Answers, str]]) -> Check:
    """Try it. ``play`` does acts in a sandbox under a policy; their answers, and what went wrong with all of it. Raises what that does."""
    if prepared.plan.rung != "namespaces":
        return Check(NAME, UNUSED, "not tried: hosts can be listed on the rung namespaces only")
    token, heard = os.urandom(_TOKEN // 2).hex(), list[str]()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        Thread(target=_serve, args=(listener, heard), daemon=True).start()
        acts: list[tuple[object, ...]] = [
            (_LISTED, "through_proxy", _LISTED, port, token),
            (_OTHER, "through_proxy", _OTHER, port, token),
            (_NOWHERE, "connect_to", _NOWHERE, port),
        ]
        answers, trouble = play(_listing(prepared.policy, port), acts)
        listener.shutdown(socket.SHUT_RDWR)
    wrong = trouble or _wrong(answers, token, heard)
    if wrong:
        return Check(NAME, MISSING, wrong, "# Please report it, with what this prints:\nhouseroom doctor --json")
    return Check(NAME, WORKS, f"a listed name of a server outside was reached, another one refused; connect elsewhere: {_words(EACCES)}")


def _wrong(answers: Answers, token: str, heard: list[str]) -> str:
    """What did not go as it must, "" where all did."""
    listed, other, nowhere = (answers.get(name) for name in (_LISTED, _OTHER, _NOWHERE))
    if listed is None or not listed.done or listed.seen != token:
        return f"a listed name was not reached: {_told(listed)}"
    if other is None or other.done or "403" not in str(other.seen) or heard != [token]:
        return f"a name that is not listed, by the proxy: {_told(other)}"
    if nowhere is None or nowhere.done or nowhere.seen != _words(EACCES):
        return f"connect to an address that is not listed: {_told(nowhere)}"
    return ""


def _told(answer: Answer | None) -> str:
    return answer.words if answer else "not tried"


def _words(number: int) -> str:
    return os.strerror(number)


def _listing(policy: Policy, port: int) -> Policy:
    """The policy with another network: what reads and writes stays, so what starts under it starts here too."""
    origin = Origin("session", "doctor")
    strata = [
        stratum.with_(
            rules=tuple(rule for rule in stratum.rules if not rule.key.startswith("network.")),
            settings={key: setting for key, setting in stratum.settings.items() if not key.startswith("network.")},
            closed=frozenset(key for key in stratum.closed if not key.startswith("network.")),
        )
        for stratum in policy.strata
    ]
    rules = tuple(Rule("network.allow", f"{host}:{port}", origin) for host in _ALLOWED)
    first = strata[0]
    strata[0] = first.with_(rules=(*first.rules, *rules), settings={**first.settings, "network.reach": Setting("listed", origin)})
    return policy.with_(strata=tuple(strata))


def _serve(listener: socket.socket, heard: list[str]) -> None:
    """Give each client its word back, until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(_PATIENCE)
            try:
                word = connection.recv(_TOKEN, socket.MSG_WAITALL)
                heard.append(word.decode("ascii", "replace"))
                connection.sendall(word)
            except OSError:
                heard.append("")
