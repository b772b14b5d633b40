"""Using more than is granted. Each stops by itself: bare, it takes 300 MB, 200 processes or 8 MB of output, and gives them back.

A first argument that every probe gets is the stage's root; it is not used.
"""

from __future__ import annotations

import mmap
import os
import signal
import time

from probe_kit import LIBC, main, say

MEGABYTE = 1 << 20
HOG = 300  # megabytes
BOMB = 200  # processes
OUTPUT = 8  # megabytes


def hog(root: str) -> None:
    """In the process's own memory, a little at a time, as programs do."""
    kept = []
    for _ in range(HOG // 10):
        kept.append(b"x" * (10 * MEGABYTE))
        time.sleep(0.01)


def hog_at_once(root: str) -> None:
    held = mmap.mmap(-1, HOG * MEGABYTE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, HOG * MEGABYTE, mmap.PAGESIZE):
        held[at] = 1
    time.sleep(0.6)


def ask_for_much(root: str) -> None:
    """Memory of its own that could be written, all at one time. Nothing of it is."""
    mmap.mmap(-1, 4 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


def hog_shared(root: str) -> None:
    """Memory that belongs to no process alone."""
    held = mmap.mmap(-1, HOG * MEGABYTE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    for at in range(0, HOG * MEGABYTE, mmap.PAGESIZE):
        held[at] = 1
    time.sleep(0.6)


def hog_files(root: str, directory: str) -> None:
    """On a file system that lives in memory."""
    path = f"{directory}/hog-{os.getpid()}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for _ in range(HOG):
            os.write(descriptor, b"x" * MEGABYTE)
        time.sleep(0.6)
    finally:
        os.close(descriptor)
        os.unlink(path)


def hog_by_many(root: str) -> None:
    """Thirty processes of ten megabytes each; done when all of them hold theirs at one time and live on."""
    ready, tell = os.pipe()
    wait, let_go = os.pipe()
    for _ in range(HOG // 10):
        if os.fork() == 0:
            os.close(let_go)
            kept = b"x" * (10 * MEGABYTE)
            os.write(tell, b".")
            os.close(tell)  # who is killed writes nothing, and must not be waited for
            os.read(wait, 1)
            os._exit(len(kept) & 1)
    os.close(tell)
    heard = 0
    while heard < HOG // 10 and (said := os.read(ready, 64)):
        heard += len(said)
    time.sleep(0.6)
    os.close(let_go)
    ended = [os.wait()[1] for _ in range(HOG // 10)]
    if any(map(os.WIFSIGNALED, ended)):
        raise OSError(12, f"{sum(map(os.WIFSIGNALED, ended))} of them were killed")


def hog_without_first_thread(root: str) -> None:
    """The first thread ends, so that /proc shows nothing of the process under its own number."""
    import threading

    def rest() -> None:
        hog(root)
        say("DONE")
        os._exit(0)

    threading.Thread(target=rest).start()
    LIBC.pthread_exit(None)


def bomb(root: str) -> None:
    """Processes that all live at one time; each ends when its parent does."""
    wait, let_go = os.pipe()
    made = 0
    try:
        for _ in range(BOMB):
            if os.fork() == 0:
                os.close(let_go)
                os.read(wait, 1)
                os._exit(0)
            made += 1
    finally:
        say(f"made: {made}")
        os.close(let_go)
        for _ in range(made):
            os.wait()


def bomb_of_threads(root: str) -> None:
    import _thread

    made = 0
    try:
        for _ in range(BOMB):
            try:
                _thread.start_new_thread(time.sleep, (1.5,))
            except RuntimeError as error:
                raise BlockingIOError(11, str(error)) from None
            made += 1
    finally:
        say(f"made: {made}")


def endless(root: str, stream: str = "1") -> None:
    """Not endless: eight megabytes."""
    line = b"y\n" * 512
    for _ in range(OUTPUT * MEGABYTE // len(line)):
        os.write(int(stream), line)


def both_streams(root: str) -> None:
    for _ in range(OUTPUT * MEGABYTE // 2048):
        os.write(1, b"o" * 1024)
        os.write(2, b"e" * 1024)


def spin(root: str) -> None:
    """Three seconds of processor time."""
    while time.process_time() < 3:
        pass


def large_file(root: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the interpreter ignores it
    descriptor = os.open("large", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    for _ in range(OUTPUT):
        os.write(descriptor, b"x" * MEGABYTE)


def many_files(root: str) -> None:
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(BOMB)]
    for descriptor in held:
        os.close(descriptor)


def full_disk(root: str, directory: str) -> None:
    hog_files(root, directory)


def leave(root: str, *files: str) -> None:
    """Write our own number into the lists of other control groups, then take more than is granted."""
    moved = 0
    for file in files:
        try:
            with open(file, "w") as listed:
                listed.write(str(os.getpid()))
            moved += 1
        except OSError as error:
            say(f"{file}: {error.strerror}")
    if not moved:
        raise PermissionError(1, "nothing could be left")
    hog(root)


if __name__ == "__main__":
    main(globals())
