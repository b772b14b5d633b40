"""Programs for the inside that count processes there, none of which stands still while it is counted."""

from __future__ import annotations

COUNT = """
import os, sys

def comm(process):
    try:
        return open(f"/proc/{process}/comm").read().strip()
    except OSError:
        return ""  # it has just ended

print(sum(comm(process) == sys.argv[1] for process in os.listdir("/proc") if process.isdigit()))
"""
