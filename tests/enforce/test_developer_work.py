"""Developer work stays intact: the same commands, bare and inside, with the same status and output."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from runner import Bench, through_terminal

pytestmark = pytest.mark.needs("userns")

SHELL = {
    "compile and run": "printf '#include <stdio.h>\\nint main(void){puts(\"hi\");return 0;}' > a.c && gcc a.c -o a && ./a",
    "make in parallel": "printf 'all: a b c d\\na b c d:\\n\\techo $@ > $@.o\\n' > Makefile && make -s -j4 && cat *.o",
    "copy, pack and move": "set -e; mkdir plain; cp file plain; cp -a plain copy; tar cf t.tar copy; mkdir out; tar xf t.tar -C out; "
    "mv out/copy deep/; rm -rf copy out; find deep | sort",
    "links": "ln file hard && ln -s file soft && cat hard soft && rm hard && stat -c %h file",
    "save like an editor": "cp file file~ && echo new > .file.tmp && mv .file.tmp file && cat file file~",
    "deep directories": "p=$(printf 'd/%.0s' $(seq 100)); mkdir -p $p && echo x > ${p}f && cat ${p}f && rm -r d",
    "fifo": "mkfifo p && (echo through > p &) && cat p",
    "lock": "flock lock.file sh -c 'flock -n lock.file true || echo held'",
    "standard error apart": "echo out; echo err >&2",
    "temporary directory": 'test -d "${TMPDIR:-/tmp}" && f=$(mktemp) && echo x > $f && cat $f',
    "shared memory": "echo x > /dev/shm/hrprobe-own && cat /dev/shm/hrprobe-own && rm /dev/shm/hrprobe-own",
    "identity": "id -u; id -g; pwd",
    "git reading": "git status --porcelain; git log --format=%s; git diff HEAD~1 --stat; git blame -s file | cut -d')' -f2",
    "umask": "umask 077; echo x > f; mkdir d; stat -c %a f d",
}

PYTHON = {
    "multiprocessing": """
import multiprocessing as m
from multiprocessing import shared_memory
def square(x): return x * x
def put(q, l):
    with l: q.put(7)
if __name__ == '__main__':
    with m.Pool(2) as pool: print(pool.map(square, range(5)))
    q, l = m.Queue(), m.Lock(); p = m.Process(target=put, args=(q, l)); p.start(); print(q.get()); p.join()
    with m.Manager() as manager: d = manager.dict(); d['a'] = 1; print(dict(d))
    s = shared_memory.SharedMemory(create=True, size=16); s.buf[0] = 5; print(s.buf[0]); s.close(); s.unlink()
""",
    "asyncio": """
import asyncio, os
async def serve(r, w): w.write(await r.read(2)); await w.drain(); w.close()
async def main():
    print(await asyncio.to_thread(lambda: 1))
    p = await asyncio.create_subprocess_exec('echo', 'x', stdout=-1); print(await p.communicate())
    for path in ('u.sock', '/tmp/hrprobe-u.sock'):
        s = await asyncio.start_unix_server(serve, path); r, w = await asyncio.open_unix_connection(path)
        w.write(b'ok'); print(await r.read(2)); w.close(); s.close(); os.unlink(path)
    s = await asyncio.start_server(serve, '127.0.0.1', 0); r, w = await asyncio.open_connection(*s.sockets[0].getsockname())
    w.write(b'ok'); print(await r.read(2)); w.close(); s.close()
asyncio.run(main())
""",
    "sqlite": "import sqlite3; c = sqlite3.connect('d.db'); print(c.execute('pragma journal_mode=wal').fetchone()); "
    "c.execute('create table t(a)'); c.execute('insert into t values(1)'); c.commit(); print(c.execute('select * from t').fetchall())",
    "pty": "import os, pty; print(os.waitstatus_to_exitcode(pty.spawn(['echo', 'x']))); "
    "m, s = os.openpty(); os.write(s, b'y'); print(os.read(m, 1))",
    "http": """
import http.server, threading, urllib.request
s = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler); s.RequestHandlerClass.log_message = lambda *a: None
threading.Thread(target=s.serve_forever, daemon=True).start()
print(urllib.request.urlopen(f'http://127.0.0.1:{s.server_port}/file').read())
""",
    "threads create files": """
import os, threading
def make(n):
    os.mkdir(f't{n}')
    for i in range(2000): open(f't{n}/{i}', 'w').close()
ts = [threading.Thread(target=make, args=(n,)) for n in range(8)]; [t.start() for t in ts]; [t.join() for t in ts]
print(sum(len(os.listdir(f't{n}')) for n in range(8)))
""",
    "temporary file linked": """
import ctypes, os
d = os.open('.', os.O_WRONLY | os.O_TMPFILE, 0o600); os.write(d, b'x')
print(ctypes.CDLL(None).linkat(-100, b'/proc/self/fd/%d' % d, -100, b'linked-in', 0x400))
print(open('linked-in').read())
""",
    "compileall": "import compileall; print(compileall.compile_dir('.', quiet=2))",
}


@pytest.mark.needs("gcc", "make", "git")
@pytest.mark.parametrize("work", SHELL)
def test_shell(bench: Bench, work: str) -> None:
    bench.same(["sh", "-c", SHELL[work]])


@pytest.mark.parametrize("work", PYTHON)
def test_python(bench: Bench, work: str) -> None:
    def prepare() -> None:
        bench.stage.plant(bench.stage.workspace / "work.py", PYTHON[work], 0o644)

    bench.same([bench.identity.python, "work.py"], prepare=prepare, patience=120.0)


def test_answers_of_file_system_calls(bench: Bench) -> None:
    """Creation is mediated, yet every call answers as it does without a sandbox."""
    script = str(bench.identity.base / "probes/run_probe.py")
    outcome = bench.same([bench.identity.python, "-S", "-B", script, "errno_oracle"])
    assert "final tree" in outcome.out and len(outcome.out.splitlines()) > 150


def test_fifty_megabytes_of_standard_input(bench: Bench) -> None:
    bench.same(["sh", "-c", "wc -c"], data=b"x" * 50_000_000)


def test_argv_byte_for_byte(bench: Bench) -> None:
    script = "import os, sys; print([os.fsencode(a) for a in sys.argv[1:]])"
    bench.same([bench.identity.python, "-c", script, b"\xff\xfe", "ä", "", " ", "a\nb", "--", "-x"])


def test_300_kilobytes_of_argv(bench: Bench) -> None:
    script = "import sys; print(len(sys.argv), sum(map(len, sys.argv)))"
    bench.same([bench.identity.python, "-c", script, *["x" * 1000] * 300])


@pytest.mark.needs("node")
def test_node(bench: Bench) -> None:
    bench.same(["node", "-e", "console.log(require('child_process').execSync('echo x').toString())"])


@pytest.mark.needs("npm")
def test_npm(bench: Bench) -> None:
    bench.same(["sh", "-c", "npm init -y >/dev/null && npm pkg set scripts.hi='echo hello' && npm run -s hi"])


@pytest.mark.needs("gdb", "gcc")
def test_debugger_on_an_own_child(bench: Bench) -> None:
    build = "echo 'int main(void){return 3;}' > a.c && gcc -g a.c -o a"
    script = f"{build} && gdb -q -batch -ex run ./a 2>/dev/null | grep -c 'exited with code 03'"
    bench.same(["sh", "-c", script])


def test_venv_and_pip(bench: Bench) -> None:
    def prepare() -> None:
        wheel: Path = bench.stage.workspace / "tiny-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("tiny.py", "print('tiny works')\n")
            archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
            archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr("tiny-1.0.dist-info/RECORD", "")
        bench.stage.give(wheel)

    install = "v/bin/pip install -q --no-index --disable-pip-version-check ./*.whl"
    script = f"{bench.identity.python} -m venv v && {install} && v/bin/python -m tiny"
    bench.same(["sh", "-c", script], prepare=prepare, patience=120.0)


def test_controlling_terminal(bench: Bench) -> None:
    for inside in (False, True):
        assert "to the terminal" in through_terminal(bench, ["sh", "-c", "echo to the terminal > /dev/tty; tty -s"], inside=inside).out
