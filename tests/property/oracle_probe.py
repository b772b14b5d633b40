"""Does acts one at a time and says how each ended. The same program runs inside the sandbox and, as the twin, outside.

The twin runs with all rights of its user and follows generated links, so nothing but looking is ever done to what lies
outside the stage (argv's last word): the probe itself refuses, before the system call.

One JSON list a line on standard input, ``[verb, path, …]``, paths as text with surrogate escapes; one JSON object a line back:
``errno`` (0: done) and ``data``, what was read. Standard library only, started with ``-I -S``.
"""

import json
import os
import sys

APPENDED = b"appended\n"
MADE = b"made inside\n"


def read(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, 65536).decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)


def write(path):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, APPENDED)
    finally:
        os.close(fd)


def create(path, *, flags=0):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    try:
        os.write(fd, MADE)
    finally:
        os.close(fd)


VERBS = {
    "read": read,
    "list": lambda path: sorted(os.listdir(path)),
    "write": write,
    "truncate": lambda path: os.truncate(path, 0),
    "chmod": lambda path: os.chmod(path, 0o700),
    "create": lambda path: create(path, flags=os.O_EXCL),
    "open_create": create,
    "mkdir": lambda path: os.mkdir(path, 0o755),
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "symlink": os.symlink,
    "link": lambda source, path: os.link(source, path, follow_symlinks=False),
    "rename": os.rename,
}


LOOKS = ("read", "list")


def stays(stage, verb, paths):
    """Whether an act that changes something changes it on the stage alone, also through every link."""
    named = paths[1:] if verb == "symlink" else paths
    ends = [end for path in named for end in (os.path.realpath(path), os.path.realpath(os.path.dirname(path) or "."))]
    return verb in LOOKS or all(f"{end}/".startswith(f"{stage}/") for end in ends)


def main():
    stage = sys.argv[-1]
    if not os.path.isabs(stage) or len(stage.split("/")) < 4 or os.path.realpath(stage) != stage:
        sys.exit(f"no stage: {stage}")
    print(json.dumps({"ready": os.getuid()}), flush=True)
    for line in sys.stdin:
        verb, *paths = json.loads(line)
        if not stays(stage, verb, paths):
            sys.exit(f"would leave the stage: {line}")
        try:
            answer = {"errno": 0, "data": VERBS[verb](*paths)}
        except OSError as error:
            answer = {"errno": error.errno, "data": None}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
