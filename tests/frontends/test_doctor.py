"""What `houseroom doctor` says about hosts that we don't have, from what was found to words."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from houseroom.frontends.cli import doctor
from houseroom.frontends.cli.doctor import Report
from houseroom.frontends.cli.paper import Paper
from houseroom.plan.facts import Host
from houseroom.plan.steps import Covered
from houseroom.session.doctor import Check

Snapshot = Callable[[str, str], None]

WHOLE = Report(
    Host("6.18.1", "x86_64", 1000, 1000, landlock_abi=7),
    "lockdown, capability, landlock, yama, apparmor",
    "workspace",
    (
        Check("namespaces", "works", "user, mount, pid, network, ipc, uts and cgroup in one call", ""),
        Check("landlock", "works", "ABI 7", ""),
        Check("seccomp", "works", "filters, and notification with a listener of our own", ""),
        Check("bubblewrap", "unused", "not needed: own namespaces work", ""),
    ),
    "namespaces",
    (
        Covered("files.write", "enforced", ("read-only root", "Landlock")),
        Covered("files.hide", "enforced", ("empty masks", "watch")),
        Covered("network", "enforced", ("empty network namespace",)),
    ),
)
RESTRICTED = WHOLE.with_(
    checks=(
        Check(
            "namespaces",
            "missing",
            "can't write /proc/self/uid_map: Operation not permitted (AppArmor restricts unprivileged user namespaces)",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        Check("landlock", "works", "ABI 7", ""),
        Check("bubblewrap", "missing", "not installed", "sudo apt install bubblewrap"),
    ),
    rung="landlock",
    coverage=(
        Covered("files.write", "enforced", ("Landlock",)),
        Covered("files.hide", "partly", ("Landlock",), ("names and metadata of hidden files can be seen",)),
        Covered("network", "partly", ("seccomp",), ("sockets that are handed to the command stay usable",)),
    ),
    refused="can't enforce files.hide: this host has no user namespaces\nUse --accept files.hide to start without it.",
)
REPORTS = {"doctor-whole": WHOLE, "doctor-restricted": RESTRICTED}


@pytest.mark.parametrize("name", REPORTS)
def test_what_is_shown(snapshot: Snapshot, name: str) -> None:
    text = doctor.as_text(REPORTS[name], Paper(80, colour=False))
    assert max(map(len, text.split("\n"))) <= 80
    snapshot(name, text)


def test_json_has_all_of_it() -> None:
    document = json.loads(json.dumps(doctor.as_document(RESTRICTED)))
    assert document["ok"] is False
    assert document["rung"] == "landlock"
    assert document["checks"][0]["fix"].startswith("sudo sysctl")
    assert document["coverage"][1]["loses"] == ["names and metadata of hidden files can be seen"]
    assert document["host"]["landlock_abi"] == 7
