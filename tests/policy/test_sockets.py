"""What a policy says of connecting to a Unix socket of the host, and which of them lead round any policy."""

from __future__ import annotations

import pytest

from houseroom.errors import PolicyError
from houseroom.policy.model import Origin, Places, Policy, Rule, Stratum
from houseroom.policy.parse import parse
from houseroom.policy.sockets import KEY, POWERFUL, decide, granted, power_of

PLACES = Places("/home/me/work", "/home/me", "/tmp", 1000)


def voice(*paths: str, name: str = "user", closed: bool = True) -> Stratum:
    rules = tuple(Rule(KEY, path, Origin(name, f"{name}.toml", line, 1)) for line, path in enumerate(paths, 1))
    return Stratum(name, rules, {}, frozenset({KEY}) if closed else frozenset())


def test_exactly_what_is_named() -> None:
    policy = Policy("p", (voice("/run/pg/s", "~/a", "b", "{workspace}/c", "{user}/d"),))
    for path in ("/run/pg/s", "/home/me/a", "/home/me/work/b", "/home/me/work/c", "/run/user/1000/d"):
        reached = decide(policy, PLACES, path)
        assert reached.granted and reached.rule and not reached.obstacle
    for path in ("/run/pg", "/run/pg/s/t", "/run/pg/s2", "/home/me/work/a"):
        reached = decide(policy, PLACES, path)
        assert not reached.granted and reached.rule is None and not reached.obstacle


def test_a_voice_that_narrows_is_named() -> None:
    policy = Policy("p", (voice("/run/s", "/run/t"), voice("/run/t", name="organisation")))
    assert decide(policy, PLACES, "/run/t").granted
    refused = decide(policy, PLACES, "/run/s")
    assert not refused.granted and "organisation" in refused.obstacle
    assert [parts for parts, _rule in granted(policy, PLACES)] == [("run", "t")]
    assert granted(Policy("p", (voice("/run/s"), voice(name="project", closed=False))), PLACES)
    assert not granted(Policy("p", (voice(), voice("/run/s", name="project"))), PLACES)


def test_abstract_ones_are_let_through_by_nothing() -> None:
    refused = decide(Policy("p", (voice("/tmp/.X11-unix/X0"),)), PLACES, "@/tmp/.X11-unix/X0")
    assert not refused.granted and refused.obstacle


@pytest.mark.parametrize("subject", ["/run/*.sock", "**/s", "/run/?"])
def test_wildcards_are_refused_where_they_stand(subject: str) -> None:
    with pytest.raises(PolicyError, match="more than one socket") as caught:
        parse(f'[network]\nsockets = ["/run/s", "{subject}"]', layer="user", file="user.toml")
    assert (caught.value.line, caught.value.column) == (2, 22)
    with pytest.raises(PolicyError, match="more than one socket"):
        granted(Policy("p", (voice(subject),)), PLACES)


@pytest.mark.parametrize(
    "path",
    [
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/home/me/.docker/run/docker.sock",
        "/run/user/1000/docker.sock",
        "/run/user/1000/podman/podman.sock",
        "/run/containerd/containerd.sock",
        "/run/libvirt/libvirt-sock",
        "/run/libvirt/virtqemud-sock-ro",
        "/run/dbus/system_bus_socket",
        "/run/user/1000/bus",
        "/run/systemd/private",
        "/run/user/1000/systemd/private",
        "/run/snapd.socket",
        "/tmp/ssh-XXXXabc/agent.123",
        "/run/user/1000/ssh-agent.socket",
        "/run/user/1000/keyring/ssh",
        "/run/user/1000/gnupg/S.gpg-agent.ssh",
        "/home/me/.gnupg/S.gpg-agent",
        "/tmp/.X11-unix/X0",
        "/run/user/1000/wayland-0",
        "/tmp/tmux-1000/default",
    ],
)
def test_doors_round_any_policy_are_known(path: str) -> None:
    assert power_of(path)


@pytest.mark.parametrize(
    "path", ["/run/postgresql/.s.PGSQL.5432", "/run/mysqld/mysqld.sock", "/run/redis/redis.sock", "/home/me/work/app.sock", "/srv/bus/x"]
)
def test_ordinary_servers_are_none(path: str) -> None:
    assert power_of(path) == ""


def test_each_row_says_what_is_to_be_had_and_is_found() -> None:
    for names, what in POWERFUL:
        assert what and power_of("/x/y/" + names.replace("*", "1")), names
