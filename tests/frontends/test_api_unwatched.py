"""``Session.unwatched``: whether the host let every directory be watched in which it may make hidden files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("linux", "userns")

# In a user namespace of its own, root may say how many queues there may be (namespaces of /proc/sys/user, namespaces(7)).
WITHIN = (
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    'echo "$1" > /proc/sys/user/max_inotify_instances && shift && exec "$@"',
    "sh",
)
ASKED = """
import sys, time
from houseroom import Session
with Session(workspace=sys.argv[1]) as session:
    print(session.unwatched)
    session.run(["true"])
    for _ in range(int(sys.argv[2])):
        if session.unwatched:
            break
        time.sleep(0.02)  # init says so in its own time
    print(session.unwatched)
"""
ASKED_ASYNC = """
import asyncio, sys
from houseroom import AsyncSession
async def main():
    async with AsyncSession(workspace=sys.argv[1]) as session:
        print(session.unwatched)
        await session.run(["true"])
        for _ in range(int(sys.argv[2])):
            if session.unwatched:
                break
            await asyncio.sleep(0.02)
        print(session.unwatched)
asyncio.run(main())
"""


@pytest.mark.parametrize("program", [ASKED, ASKED_ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize(("queues", "looks", "found"), [("0", 500, ["False", "True"]), ("128", 20, ["False", "False"])])
def test_it_says_so_where_there_can_be_no_queue(home: Path, program: str, queues: str, looks: int, found: list[str]) -> None:
    argv = [*WITHIN, queues, sys.executable, "-c", program, str(home / "project"), str(looks)]
    done = subprocess.run(argv, cwd=home / "project", capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.stderr) == (found, "")
