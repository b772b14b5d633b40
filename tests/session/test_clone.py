"""A process is born of one whose interpreter has other threads at work: it must not wait for a lock that nobody of its own holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BORN = """
import os, sys, threading, time
from houseroom.enforce.linux import process_sys

def busy():
    while True:
        time.sleep(0)

for _ in range(2):
    threading.Thread(target=busy, daemon=True).start()
for number in range(400):
    pid = process_sys.clone(0)
    if pid == 0:
        os._exit(sum(range(2000)) % 7)  # some work, between which the lock is asked for
    end = time.monotonic() + 30
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            sys.exit(f"child {number} never got to its end")
    assert os.waitstatus_to_exitcode(ended[1]) == sum(range(2000)) % 7
print("born")
"""


def test_a_new_process_has_the_interpreter_to_itself() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", BORN], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "born\n"), done.stderr
