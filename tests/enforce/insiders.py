"""Programs for the inside that count processes there, none of which stands still while it is counted."""

from __future__ import annotations

COUNT = """
import os, sys

def comm(process):
    try:
        name, _, rest = open(f"/proc/{process}/stat").read().partition("(")[2].rpartition(")")
    except OSError:
        return ""  # it has just ended
    return "" if rest[1] in "ZX" else name

print(sum(comm(process) == sys.argv[1] for process in os.listdir("/proc") if process.isdigit()))
"""
