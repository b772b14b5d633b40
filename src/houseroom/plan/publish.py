"""Ports of a sandbox that the host reaches at its own loopback."""

from __future__ import annotations

from houseroom.errors import CannotEnforce
from houseroom.plan.steps import Publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.policy.model import Policy

KEY = "network.publish"
_LOWEST = 1024  # a new network namespace begins with this as its lowest port for everybody (ip_unprivileged_port_start)
_WHY = "connections to these ports of the host's loopback are made to the same ones inside, by a process outside"


def steps(policy: Policy, *, own_network: bool) -> tuple[Publish, ...]:
    """The step, where anything is to be published; none on the host's own network, where what listens inside can be reached anyway.

    ``own_network``: the sandbox has a network, made by us. Raises CannotEnforce where it has none, and for what nobody could listen at.
    """
    reach = policy.setting("network.reach")
    rules = policy.granted(KEY)
    if not rules or (reach is not None and reach.value == "open"):
        return ()
    if not own_network:
        reason = f"ports are published from a network namespace, which only the rung namespaces has ({rules[0].origin})"
        raise CannotEnforce((KEY,), reason, f"Take {KEY} out of the policy, or what stands for it out of the command line.")
    for rule in rules:
        if int(rule.subject) < _LOWEST:
            reason = f"no program inside may listen at port {rule.subject}, nor at any below {_LOWEST} ({rule.origin})"
            raise CannotEnforce((KEY,), reason, "Have it listen at a higher port, such as 8000, and publish that.")
    return (Publish(tuple(sorted({int(rule.subject) for rule in rules})), _WHY),)
