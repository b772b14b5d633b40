"""Which step carries out which limit of a policy: a control group where this host has one, else the next best.

A process limit is the kernel's own count in the sandbox's user namespace, which leaves root out; memory has no limit for several
processes together but that of a control group, so init adds it up. ``coverage`` says what each way loses.
"""

from __future__ import annotations

from houseroom.plan.steps import Cgroup, Tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.plan.facts import Host
    from houseroom.policy.model import Policy

# Added to the limit of all together for what one process may write in its own memory: a guard between two looks of init. Programs ask
# for more than they use, each thread for a stack of eight megabytes.
SLACK = 1 << 30

# Inherited one by one, with setrlimit(2).
_OF_EACH = ("processes", "open_files", "file_size", "cpu")


def group(policy: Policy, host: Host) -> tuple[Cgroup, ...]:
    """The control group, where there is something for it to limit."""
    memory = amount(policy, "limits.memory") if host.cgroup_memory else 0
    processes = amount(policy, "limits.processes") if host.cgroup_pids else 0
    why = "one ceiling over all that is inside, counted by the kernel"
    return (Cgroup(memory, processes, why),) if memory or processes else ()


def tally(policy: Policy, host: Host, areas: tuple[str, ...]) -> tuple[Tally, ...]:
    """What init counts itself because no control group does. ``areas``: file systems in memory that are the sandbox's own."""
    memory = 0 if host.cgroup_memory else amount(policy, "limits.memory")
    processes = 0 if host.cgroup_pids or host.uid else amount(policy, "limits.processes")
    why = "no control group can be had, so init looks how much there is, many times a second"
    return (Tally(memory, processes, areas if memory else (), why),) if memory or processes else ()


def rlimits(policy: Policy, host: Host) -> dict[str, int]:
    """What each process has for itself, by the names of ``enforce``: bytes, numbers, whole seconds."""
    out = {name: value for name in _OF_EACH if (value := amount(policy, f"limits.{name}"))}
    if host.cgroup_pids:
        out.pop("processes", None)  # it would refuse first, and nobody could tell afterwards
    if not host.cgroup_memory and (memory := amount(policy, "limits.memory")):
        out["data"] = memory + SLACK
    return out


def amount(policy: Policy, key: str) -> int:
    """A limit's number, parts rounded up; 0 where there is none."""
    setting = policy.setting(key)
    return 0 if setting is None else int(-(-float(str(setting.value)) // 1))
