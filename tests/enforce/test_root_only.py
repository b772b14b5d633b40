"""What user id 0 could still do to the host. The same attacks run as the unprivileged user, where some have no control."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from runner import Bench, Said, When

pytestmark = pytest.mark.needs("userns")

# Attack → path that must exist for its control; "" where there is none.
OPENING = {
    "core_pattern": "/proc/sys/kernel/core_pattern", "core_pattern_by_proc_root": "/proc/sys/kernel/core_pattern",
    "module_loader": "/proc/sys/kernel/modprobe", "kernel_setting": "/proc/sys/vm/swappiness",
    "kernel_host_name": "/proc/sys/kernel/domainname", "binary_formats": "/proc/sys/fs/binfmt_misc/register",
    "sysrq": "/proc/sysrq-trigger", "device_setting": "/sys/block/vda/queue/read_ahead_kb",
    "helper_for_events": "/sys/kernel/uevent_helper", "device_event": "/sys/class/mem/null/uevent",
    "control_group": "/sys/fs/cgroup/unified",
    "interrupt_affinity": "/proc/irq/default_smp_affinity", "block_device_node": "/dev/vda", "block_device": "/dev/vda",
    "memory_device_node": "/dev/kmsg", "character_device_in_tmp": "/dev/kmsg", "raw_disk_through_shared_memory": "/dev/vda",
    "kernel_memory": "/proc/kcore", "kernel_addresses": "/proc/kallsyms", "kernel_ring": "/dev/kmsg", "trusted_attribute": "/",
    "capability_on_file": "/", "give_away": "/", "immutable": "/", "priority": "/", "raise_limits": "/",
}  # fmt: skip


# A device control group may keep the disk even from root, so these are judged inside only; the other nodes have controls.
NO_CONTROL = {"block_device_node", "block_device", "raw_disk_through_shared_memory"}


@pytest.mark.parametrize("attack", OPENING)
def test_host_settings_and_devices(bench: Bench, attack: str) -> None:
    needed = OPENING[attack]
    able = bench.identity.uid == 0 and os.path.exists(needed) and attack not in NO_CONTROL
    bench.twin(bench.probe("attack_root", attack), Said("DONE"), control=able or f"its control needs root and {needed}")


def test_file_of_another_user(bench: Bench) -> None:
    """Root may read every file of the host outside; inside it has no capability left to do so."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a foreign file")
    path = Path(bench.identity.base) / "foreign"
    path.write_text(bench.stage.token)
    os.chown(path, 65534, 65534)
    path.chmod(0o600)
    able = bench.identity.uid == 0
    bench.twin(bench.probe("attack_root", "foreign_file", path), bench.leak(), control=able or "needs root")


def test_shadow_passwords(bench: Bench) -> None:
    bench.twin(bench.probe("attack_root", "shadow"), Said("shadow True"), control=bench.identity.uid == 0 or "needs root")


def test_no_set_user_id_program_is_left(bench: Bench) -> None:
    """A set-user-id program in the workspace would run with this identity for every other user of the host."""
    file = bench.stage.workspace / "file"
    bench.twin(
        ["sh", "-c", "echo probe: suid; chmod 4755 file"],
        When(lambda: "set-user-id" if file.stat().st_mode & 0o4000 else ""),
        control=shutil.which("chmod") is not None,
    )
