"""The egress proxy itself, without a sandbox: what it keeps stays small, whatever it is asked."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the egress proxy is Linux's", allow_module_level=True)

from houseroom.policy.hosts import Address
from houseroom.policy.model import Origin, Policy, Rule, Setting, Stratum
from houseroom.policy.traffic import Traffic
from houseroom.session import egress, ledger
from houseroom.session.proxy import outside, tunnel
from houseroom.session.proxy.account import RECEIVED, SENT
from houseroom.session.proxy.agreement import Agreement
from houseroom.session.proxy.judgement import Judge
from houseroom.session.proxy.server import Server

_WHERE = Origin("session", "a test")


def question(name: str) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def code(answer: bytes) -> int:
    return answer[3] & 15


@pytest.fixture
def judge() -> Iterator[tuple[Judge, int]]:
    """Of a policy that lists *.example.org, with its ledger."""
    rule = Rule("network.allow", "*.example.org", _WHERE, "")
    stratum = Stratum("workspace", (rule,), {"network.reach": Setting("listed", _WHERE)}, frozenset())
    rules = egress.rules_of(Policy("test", (stratum,)))
    told = ledger.make()
    yield Judge(egress.policy_of(rules), told), told
    os.close(told)


def test_only_so_many_refusals_are_kept_and_each_is_told_once(judge: tuple[Judge, int]) -> None:
    judging, told = judge
    for at in range(5000):
        judging.note(f"x{at}.evil.org", "no rule allows it")
        judging.note(f"x{at}.evil.org", "no rule allows it")
    assert len(judging.account.refused) == 1000
    first, *found = egress.refusals(told)
    assert [denial.path for denial in found] == [f"x{at}.evil.org" for at in range(1000)]
    assert (first.path, first.reason) == ("others", "8000 more were refused than are kept of a sandbox")  # twice each
    assert egress.refusals(told) == ()
    judging.note("one.more.org", "no rule allows it")
    assert [(denial.path, denial.reason[:6]) for denial in egress.refusals(told)] == [("others", "1 more")]


def test_a_flood_of_names_leaves_room_for_what_was_to_be_connected_to(judge: tuple[Judge, int]) -> None:
    judging, told = judge
    server = Server(judging)
    for at in range(2000):
        assert code(asyncio.run(server.answer(question(f"x{at}.evil.org"), limit=0))) == 3
    judging.note("10.8.8.8:22", "no rule allows it")
    first, *found = egress.refusals(told)
    assert [denial.path for denial in found] == [*(f"x{at}.evil.org" for at in range(500)), "10.8.8.8:22"]
    assert first.reason == "1500 more were refused than are kept of a sandbox"


def test_port_0_is_no_port_of_a_rule(judge: tuple[Judge, int]) -> None:
    judging, _ = judge
    with pytest.raises(OSError, match="port 0"):
        asyncio.run(Server(judging)._reach("a.example.org", 0))


@pytest.mark.parametrize("before", [b"", b"\r\n", b"\n\n\r\n"])
@pytest.mark.parametrize("method", [b"GET", b"get", b"PROPFIND", b"QUERY", b"CONNECT"])
def test_the_first_request_must_agree_however_it_is_written(judge: tuple[Judge, int], method: bytes, before: bytes) -> None:
    judging, _ = judge
    target = b"a.example.org:80" if method == b"CONNECT" else b"/"

    def said(host: bytes) -> bytes:
        return before + method + b" " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"

    if method != b"CONNECT":  # which nobody says who has no proxy before him
        assert Agreement("a.example.org", 80, judging.note)(said(b"a.example.org")) == said(b"a.example.org")
    for size in (len(said(b"forbidden.org")), 1, 3, 20):
        looking, data = Agreement("a.example.org", 80, judging.note), said(b"forbidden.org")
        with pytest.raises(tunnel.Broken):
            for end in range(size, len(data) + size, size):
                assert looking(data[:end]) is None


def test_what_is_no_request_is_not_held_back(judge: tuple[Judge, int]) -> None:
    for data in (b"SSH-2.0-x\r\n", b"\x00\x01", b"EHLO there\r\n", b"\r\nEHLO"):
        assert Agreement("a.example.org", 80, judge[0].note)(data) == data
    with pytest.raises(tunnel.Broken):
        Agreement("a.example.org", 80, judge[0].note)(b"\r\n" * 40)


def test_questions_beyond_what_the_resolver_is_asked_at_a_time_fail_at_once(
    judge: tuple[Judge, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def ask() -> None:
        over = asyncio.Event()

        async def addresses(name: str) -> tuple[Address, ...]:
            asked.append(name)
            await over.wait()
            return (Address(bytes((192, 0, 2, 1))),)

        monkeypatch.setattr(outside, "addresses", addresses)
        server = Server(judge[0])
        waiting = [asyncio.ensure_future(server.answer(question(f"x{at}.example.org"), limit=0)) for at in range(300)]
        await asyncio.sleep(0)
        failed = [code(task.result()) for task in waiting if task.done()]
        assert failed == [2] * (300 - len(asked))
        assert failed
        over.set()
        assert sorted(code(answer) for answer in await asyncio.gather(*waiting)) == [0] * (300 - len(failed)) + failed
        assert code(await server.answer(question("later.example.org"), limit=0)) == 0

    asyncio.run(ask())


# In namespaces of its own: another /etc/hosts, and no network in which a resolver could be asked.
LOOK_UP = """
import asyncio, sys
from houseroom.session.proxy import outside, tunnel
for name in sys.argv[1:]:
    try:
        print(name, *asyncio.run(outside.addresses(name)))
    except OSError as error:
        print(name, type(error).__name__)
"""
TABLE = """# a comment with commented.example.org
10.1.2.3\tmade.example.org Alias.Example.org # 10.1.2.4 behind.example.org
fd00::1  made.example.org
10.1.2.5
not-an-address  broken.example.org
"""


@pytest.mark.needs("userns")
def test_the_hosts_own_table_of_names_is_honoured(tmp_path: Path) -> None:
    """Every address of a name, whatever its case there; a comment says nothing. The twin is the same without the table."""
    names = [
        "made.example.org",
        "alias.example.org",
        "behind.example.org",
        "commented.example.org",
        "ade.example.org",
        "deep.localhost",
        "xlocalhost",
    ]
    table, empty = tmp_path / "hosts", tmp_path / "empty"
    table.write_text(TABLE)
    empty.write_text("")
    found = {}
    for file in (table, empty):
        script = 'mount --bind "$0" /etc/hosts && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
        argv = ["unshare", "-Urmn", "sh", "-c", script, str(file), str(empty), sys.executable, "-c", LOOK_UP, *names]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        )
        assert (done.returncode, done.stderr) == (0, "")
        found[file] = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert {found[file].pop("deep.localhost") for file in found} == {"127.0.0.1 ::1"}, "whoever is asked: it is of this host (RFC 6761)"
    assert set(found[empty].values()) <= {"OSError", "NoSuchName"}
    assert found[table] == {
        **found[empty],
        "made.example.org": "10.1.2.3 fd00::1",
        "alias.example.org": "10.1.2.3",
    }


def test_only_so_many_destinations_are_counted_by_themselves(judge: tuple[Judge, int]) -> None:
    """However many there are: memory and file keep their size, and nothing of what was carried is left out."""
    judging, told = judge
    size = os.fstat(told).st_size
    for at in range(1500):
        for _ in range(2):
            counts = judging.account.connected(f"x{at}.example.org:443")
            counts[SENT] += at
            counts[RECEIVED] += 1
    found = ledger.reached(told)
    assert found[:1000] == tuple(Traffic(f"x{at}.example.org:443", 2, 2 * at, 2) for at in range(1000))
    assert found[1000:] == (Traffic("others", 1000, 2 * sum(range(1000, 1500)), 1000),)
    assert os.fstat(told).st_size == size


def test_the_longest_name_has_room_and_what_is_refused_stands_apart(judge: tuple[Judge, int]) -> None:
    judging, told = judge
    longest = ".".join(["a" * 63] * 3 + ["b" * 61]) + ":65535"
    assert len(longest) == 253 + 6
    for where in (longest, "x.example.org:1"):
        judging.account.connected(where)
        judging.note(where, "no\treason\n" * 1000)
    before = ledger.reached(told)
    assert before == (Traffic(longest, 1), Traffic("x.example.org:1", 1))
    assert [denial.path for denial in egress.refusals(told)] == [longest, "x.example.org:1"]
    judging.account.connected("x.example.org:1")[SENT] += 5
    assert ledger.since(before, ledger.reached(told)) == (Traffic("x.example.org:1", 1, 5, 0),)


def test_what_is_no_ledger_is_read_as_an_empty_or_a_short_one(tmp_path: Path) -> None:
    """The proxy reads what hostile programs write: whatever it might leave in the file, reading it ends, and soon."""
    for content in (b"", b"\xff" * 8, b"\xff" * 9000, os.urandom(1 << 20)):
        file = tmp_path / "ledger"
        file.write_bytes(content)
        with open(file, "rb") as opened:
            assert len(ledger.reached(opened.fileno())) <= ledger.MOST_REACHED + 1
            assert len(ledger.refusals(opened.fileno())) <= 1 << 20
