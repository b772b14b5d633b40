"""``AsyncSession``: what a user of ``asyncio.subprocess`` expects, and that whatever is cancelled leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from insiders import COUNT

from houseroom import AsyncProcess, AsyncSession, CannotEnforce, PolicyError, SessionEnded
from houseroom.policy import presets
from houseroom.policy.model import Origin, Policy, Setting

pytestmark = pytest.mark.needs("linux", "userns")

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
PATIENCE = 20.0
TREE = ["sh", "-c", "(setsid sh -c 'sleep 601 & sleep 602' &); (setsid setsid sleep 603 &); echo begun; sleep 604"]
PIPE = subprocess.PIPE


@pytest.fixture(autouse=True)
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of a user with an empty home."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "project")
    return home / "project"


def go(work: Callable[[AsyncSession], Coroutine[Any, Any, None]], **how: Any) -> None:
    """Run a coroutine function with an open session in a new event loop, which must be left with no task, in debug mode."""

    async def within() -> None:
        async with asyncio.timeout(60), AsyncSession(**how) as session:
            await work(session)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(within(), debug=True)


async def count(session: AsyncSession, name: str = "sleep") -> int:
    """How many processes of this name are alive inside."""
    return int((await session.run([PYTHON, "-S", "-c", COUNT, name], capture_output=True)).stdout)


async def begun(session: AsyncSession, number: int) -> None:
    """Until so many sleep."""
    while await count(session) < number:
        await asyncio.sleep(0.02)


# -- run and popen --------------------------------------------------------------------------------------------------------

AS_SUBPROCESS = [
    (["sh", "-c", "echo out; echo err >&2; exit 3"], {}),
    (["sh", "-c", "kill -TERM $$"], {}),
    (["tr", "a", "b"], {"input": "a\nü\n", "text": True}),
    (["cat"], {"input": b"x" * (1 << 20)}),
    (["true"], {"input": b"x" * (1 << 20)}),
    (["head", "-c", "3000000", "/dev/zero"], {}),
]


@pytest.mark.parametrize(("argv", "how"), AS_SUBPROCESS)
def test_run_is_as_subprocess_has_it(argv: list[str], how: dict[str, object]) -> None:
    its = subprocess.run(argv, capture_output=True, check=False, **how)  # type: ignore[call-overload]

    async def work(session: AsyncSession) -> None:
        mine = await session.run(argv, capture_output=True, **how)  # type: ignore[arg-type]
        assert (mine.returncode, mine.stdout, mine.stderr) == (its.returncode, its.stdout, its.stderr)

    go(work)


def test_errors_are_those_of_the_synchronous_face() -> None:
    async def work(session: AsyncSession) -> None:
        for argv, how, error in (
            (["no-such-program"], {}, FileNotFoundError),
            (["true"], {"cwd": "missing"}, FileNotFoundError),
            (["sh", "-c", "exit 7"], {"check": True}, subprocess.CalledProcessError),
            (["sleep", "600"], {"timeout": 0.1}, subprocess.TimeoutExpired),
            (["true"], {"input": "text"}, TypeError),
            (["true", "\0"], {}, ValueError),
        ):
            with pytest.raises(error):
                await session.run(argv, **how)
        with pytest.raises(FileNotFoundError):
            await session.popen(["no-such-program"], stdin=PIPE, stdout=PIPE)
        with pytest.raises(TypeError, match="argv is a list"):
            session.popen("true")
        done = await session.run(["head", "-c", "5000", "/dev/zero"], capture_output=True, output_limit=10)
        assert (len(done.stdout), done.cut) == (10, 4990)
        assert (await session.run(["sh", "-c", "stty size"], pty=True, size=(7, 9))).stdout == b"7 9\r\n"
        assert (await session.run(["sh", "-c", "sleep 600 & echo begun"], capture_output=True)).left

    go(work)


def test_a_session_that_can_not_be_built() -> None:
    async def work(**how: Any) -> None:
        async with AsyncSession(**how):
            pass

    with pytest.raises(PolicyError):
        asyncio.run(work(workspace="missing"))
    with pytest.raises(CannotEnforce):
        asyncio.run(work(git="guarded"))


def test_many_at_once_and_no_thread() -> None:
    async def work(session: AsyncSession) -> None:
        done = await asyncio.gather(*(session.run(["sh", "-c", f"sleep 0.3; echo {n}"], capture_output=True) for n in range(40)))
        assert [int(each.stdout) for each in done] == list(range(40))
        assert threading.active_count() == 1

    go(work)


def test_many_sandboxes_at_once() -> None:
    async def one(number: int) -> bytes:
        async with AsyncSession() as session:
            return (await session.run(["echo", str(number)], capture_output=True)).stdout  # type: ignore[no-any-return]

    async def all_of_them() -> list[bytes]:
        return list(await asyncio.gather(*map(one, range(10))))

    assert asyncio.run(all_of_them()) == [b"%d\n" % number for number in range(10)]


def test_lines_come_as_they_are_written() -> None:
    async def work(session: AsyncSession) -> None:
        lines = []
        async with session.popen(["sh", "-c", "echo a; echo b; echo c; exec sleep 600"], stdout=PIPE) as process:
            async for line in process.stdout:
                lines.append(line)
                if len(lines) == 3:
                    break
            assert process.returncode is None
        assert (lines, process.returncode) == ([b"a\n", b"b\n", b"c\n"], -signal.SIGKILL)
        process = await session.popen(["printf", "x\\ny"], stdout=PIPE)
        assert [line async for line in process] == [b"x\n", b"y"]
        assert await process.wait() == 0

    go(work)


def test_a_reader_that_is_slow_holds_the_writer() -> None:
    """A StreamReader takes no more than twice its limit: memory is bounded, and nothing is lost."""

    async def work(session: AsyncSession) -> None:
        process = await session.popen(["head", "-c", "10000000", "/dev/zero"], stdout=PIPE)
        await asyncio.sleep(0.3)
        assert process.returncode is None
        assert len(await process.stdout.read()) == 10_000_000
        assert await process.wait() == 0

    go(work)


def test_a_process_is_talked_to() -> None:
    async def work(session: AsyncSession) -> None:
        async with session.popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
            for word in (b"one\n", b"two\n"):
                process.stdin.write(word)
                await process.stdin.drain()
                assert await process.stdout.readline() == word
            process.stdin.close()
            assert await process.wait() == 0
        process = await session.popen(["sh", "-c", "cat; echo err >&2"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert await process.communicate(b"x" * 300_000) == (b"x" * 300_000, b"err\n")
        assert (process.returncode, process.kind) == (0, "exited")

    go(work)


def test_a_terminal_is_talked_to_and_resized() -> None:
    async def work(session: AsyncSession) -> None:
        process = await session.popen(["sh", "-i"], pty=True, env={"PS1": "> ", "PATH": os.defpath})
        process.stdin.write(b"stty size; echo first $?\n")
        await process.stdout.readuntil(b"first 0")
        process.resize(50, 100)
        process.stdin.write(b"stty size; exit 5\n")
        assert b"50 100" in await process.stdout.read()
        assert await process.wait() == 5

    go(work)


def test_signals() -> None:
    async def work(session: AsyncSession) -> None:
        for send, code in ((AsyncProcess.terminate, -15), (AsyncProcess.kill, -9), (lambda process: process.send_signal(2), -2)):
            process = await session.popen(["sleep", "600"])
            send(process)
            assert await process.wait() == code
            send(process)

    go(work)


def test_waiting_in_vain_leaves_it_running() -> None:
    async def work(session: AsyncSession) -> None:
        process = await session.popen(["sleep", "600"])
        with pytest.raises(subprocess.TimeoutExpired):
            await process.wait(0.1)
        assert process.returncode is None and await count(session) == 1
        process.kill()
        assert await process.wait() == -signal.SIGKILL

    go(work)


def test_kill_takes_also_what_an_ended_command_left() -> None:
    async def work(session: AsyncSession) -> None:
        process = await session.popen(["sh", "-c", "sleep 600 & true"])
        assert (await process.wait(), process.left, await count(session)) == (0, True, 1)
        process.kill()
        await process.wait()
        assert (process.left, await count(session)) == (False, 0)

    go(work)


def limited(**settings: float) -> Policy:
    preset = presets.preset("workspace")
    more = {key.replace("_", ".", 1): Setting(value, Origin("session", "test")) for key, value in settings.items()}
    return Policy("workspace", (preset.with_(settings={**preset.settings, **more}),))


def test_the_policys_time_ends_a_command() -> None:
    async def work(session: AsyncSession) -> None:
        done = await session.run(TREE, capture_output=True)
        assert (done.kind, done.stdout, await count(session)) == ("timed-out", b"begun\n", 0)
        process = await session.popen(TREE, stdout=subprocess.DEVNULL)
        assert (await process.wait(), process.kind, await count(session)) == (-signal.SIGKILL, "timed-out", 0)

    go(work, sandbox=limited(limits_time=1))


def test_a_session_expires() -> None:
    async def work(session: AsyncSession) -> None:
        with pytest.raises(SessionEnded) as caught:
            await session.run(["sleep", "600"])
        assert caught.value.reason == "expired"
        with pytest.raises(SessionEnded):
            await session.run(["true"])

    go(work, sandbox=limited(session_expires=1))


# -- cancelling -----------------------------------------------------------------------------------------------------------


def run_it(session: AsyncSession) -> Awaitable[object]:
    return session.run(TREE, stdout=subprocess.DEVNULL)


def capture_it(session: AsyncSession) -> Awaitable[object]:
    return session.run(TREE, capture_output=True, input=b"x" * 100_000)


def in_a_terminal(session: AsyncSession) -> Awaitable[object]:
    return session.run(TREE, pty=True)


async def wait_for_it(session: AsyncSession) -> None:
    process = await session.popen(TREE, stdout=subprocess.DEVNULL)
    await process.wait()


async def communicate_with_it(session: AsyncSession) -> None:
    process = await session.popen(TREE, stdin=PIPE, stdout=PIPE)
    await process.communicate(b"x" * 1_000_000)


async def read_its_lines(session: AsyncSession) -> None:
    async with session.popen(TREE, stdout=PIPE) as process:
        async for _ in process.stdout:
            pass


WAYS = [run_it, capture_it, in_a_terminal, wait_for_it, communicate_with_it, read_its_lines]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["cancel", "timeout", "group", "twice"])
def test_what_is_cancelled_leaves_nothing(way: Callable[[AsyncSession], Awaitable[object]], how: str) -> None:
    async def work(session: AsyncSession) -> None:
        other = await session.popen(["sleep", "700"])
        await session.run(["true"])
        before = len(os.listdir("/proc/self/fd"))
        task = asyncio.ensure_future(way(session))
        await begun(session, 5)
        if how == "timeout":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task, 0.01)
        elif how == "group":
            with pytest.raises(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(_await(task))
                    group.create_task(_fail())
            await asyncio.wait([task])
        else:
            task.cancel()
            if how == "twice":
                await asyncio.sleep(0)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        while how == "twice" and await count(session) > 1:
            await asyncio.sleep(0.02)
        assert await count(session) == 1 and other.returncode is None
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before + 4  # starters that wait for the next command, at most
        other.kill()

    go(work)


async def _await(task: asyncio.Future[object]) -> None:
    await task


async def _fail() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("turns", range(12))
def test_cancelled_at_any_moment_of_the_start(turns: int) -> None:
    """Before, while and after the request is sent: nothing of it is alive a moment later."""

    async def work(session: AsyncSession) -> None:
        for way in (run_it, wait_for_it):
            task = asyncio.ensure_future(way(session))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        while await count(session):
            await asyncio.sleep(0.02)
        assert (await session.run(["echo", "still here"], capture_output=True)).stdout == b"still here\n"

    go(work)


def test_cancelled_while_it_is_built() -> None:
    async def work() -> None:
        task = asyncio.ensure_future(AsyncSession().open())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with AsyncSession() as session:
            assert (await session.run(["true"])).returncode == 0

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(work())
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the keeper's door


def test_an_error_in_the_block_ends_everything() -> None:
    async def work() -> None:
        async with AsyncSession() as session:
            await session.popen(TREE, stdout=subprocess.DEVNULL)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(work())


def test_closing_ends_what_runs() -> None:
    async def work() -> None:
        session = await AsyncSession().open()
        process = await session.popen(TREE, stdout=PIPE)
        task = asyncio.ensure_future(session.run(["sleep", "600"]))
        await begun(session, 5)
        await session.close()
        await session.close()
        with pytest.raises(SessionEnded):
            await task
        assert await process.wait() == -signal.SIGKILL
        assert await process.stdout.read() == b"begun\n"
        with pytest.raises(SessionEnded, match="it was closed"):
            await session.run(["true"])
        with pytest.raises(RuntimeError, match="not open"):
            await AsyncSession().run(["true"])

    asyncio.run(work(), debug=True)


def test_a_command_that_ends_everything_ends_not_the_session() -> None:
    async def work(session: AsyncSession) -> None:
        for _ in range(3):
            other = await session.popen(["sleep", "600"])
            done = await session.run(["sh", "-c", "kill -9 -1"])
            assert (done.returncode, done.kind) == (-signal.SIGKILL, "signalled")
            assert await other.wait() == -signal.SIGKILL
            assert (await session.run(["echo", "again"], capture_output=True)).stdout == b"again\n"

    go(work)


def test_nothing_is_left_in_the_calling_process() -> None:
    async def work(session: AsyncSession) -> None:
        await session.run(["true"])
        await session.run(["cat"], input=b"x", capture_output=True)
        process = await session.popen(["cat"], stdin=PIPE, stdout=PIPE)
        await process.communicate(b"x")
        await session.popen(["sleep", "600"], stdout=PIPE)
        await session.run(["true"], pty=True)

    go(work)
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    go(work)
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_file_is_lent() -> None:
    async def work(session: AsyncSession) -> None:
        Path("input").write_text("0123456789")
        with open("input", "rb") as file:
            file.seek(4)
            done = await session.run(["sh", "-c", "cat; chmod 777 /proc/self/fd/0"], stdin=file, capture_output=True)
        assert done.stdout == b"456789" and Path("input").stat().st_mode & 0o777 != 0o777
        with open("input", "rb") as file:
            subprocess.run(["sh", "-c", "chmod 777 /proc/self/fd/0"], stdin=file, check=True)
        assert Path("input").stat().st_mode & 0o777 == 0o777

    go(work)
