"""Unix sockets of the host that a policy lets through, and what is known of some: that whoever may speak there is bound by no policy."""

from __future__ import annotations

from houseroom.errors import PolicyError
from houseroom.policy.pattern import components, is_glob, matches_name, place
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from houseroom.policy.model import Places, Policy, Rule

KEY: Final = "network.sockets"

# The last names of a path, and what one gets there. Matched wherever they are: rootless daemons and users choose the directory.
POWERFUL: Final = (
    ("docker.sock", "Docker starts containers with any file of the host, as root where the daemon is root's"),
    ("docker-cli.sock", "Docker Desktop starts containers with any file of the host"),
    ("docker.raw.sock", "Docker Desktop starts containers with any file of the host"),
    ("podman.sock", "Podman starts containers with any file of its user"),
    ("containerd.sock", "containerd starts containers with any file of the host, as root"),
    ("containerd.sock.ttrpc", "containerd starts containers with any file of the host, as root"),
    ("crio.sock", "CRI-O starts containers with any file of the host, as root"),
    ("buildkitd.sock", "BuildKit runs programs outside"),
    ("incus/unix.socket*", "Incus starts containers with any file of the host, as root"),
    ("lxd/unix.socket*", "LXD starts containers with any file of the host, as root"),
    ("libvirt/*sock*", "libvirt starts machines with any disk of the host"),
    ("libvirt-sock*", "libvirt starts machines with any disk of the host"),
    ("virtqemud-sock*", "libvirt starts machines with any disk of the host"),
    ("system_bus_socket", "system services act for whoever asks on this bus, systemd and polkit among them"),
    ("bus", "programs of your session are started by whoever asks on this bus, through systemd and portals"),
    ("dbus-*", "programs of your session are started by whoever asks on this bus"),
    ("systemd/private", "systemd starts any program outside"),
    ("systemd/io.*", "systemd answers for users, machines and units of the host"),
    ("snapd.socket", "snapd installs and runs software, as root"),
    ("snapd-snap.socket", "snapd answers for the host's software"),
    ("nix/daemon-socket/socket", "the Nix daemon builds and stores for all users"),
    ("ssh-*/agent.*", "an ssh agent signs with all of your keys: you, on every machine that knows them"),
    ("ssh-agent*", "an ssh agent signs with all of your keys: you, on every machine that knows them"),
    ("ssh_auth_sock", "an ssh agent signs with all of your keys: you, on every machine that knows them"),
    ("keyring/*", "your keyring signs with your keys and hands out passwords"),
    ("S.gpg-agent*", "the gpg agent signs and decrypts with your keys"),
    ("S.keyboxd", "the gpg key store can be changed"),
    (".X11-unix/X*", "an X client sees every window and types into each, terminals too"),
    ("wayland-*", "a Wayland client may be let see the screen and type"),
    ("pipewire-*", "PipeWire passes on microphone and screen"),
    ("pulse/native", "PulseAudio passes on the microphone, and loads modules"),
    ("tmux-*/*", "tmux types into your terminals, and runs programs in them"),
    ("S-*/*.*", "screen types into your terminals"),
    ("nvim*.0", "an editor's socket runs commands in it"),
    ("emacs*/*", "an editor's socket runs commands in it"),
    ("vscode-ipc-*.sock", "an editor opens and runs what it is told"),
    ("acpid.socket", "it tells what the machine's keys do"),
)  # fmt: skip


def power_of(path: str) -> str:
    """What is known to be had at a socket on this path, "" where nothing is."""
    parts = components(path)
    for names, what in POWERFUL:
        globs = names.split("/")
        if len(parts) >= len(globs) and all(map(matches_name, globs, parts[len(parts) - len(globs) :])):
            return what
    return ""


def check(subject: str) -> str:
    """What is wrong with a rule's subject, "" where nothing is."""
    return "stands for more than one socket: each is named by itself" if is_glob(subject) else ""


def granted(policy: Policy, places: Places) -> tuple[tuple[tuple[str, ...], Rule], ...]:
    """The sockets of the first stratum's list that no other stratum's list leaves out, with their rules.

    Raises PolicyError for a rule that names more than one.
    """
    first, *others = policy.strata
    found = _placed(first.under(KEY), places)
    lists = [_placed(stratum.under(KEY), places) for stratum in others if KEY in stratum.closed]
    return tuple((parts, rule) for parts, rule in found.items() if all(parts in each for each in lists))


class Reached(Record):
    """Whether a socket may be connected to. ``obstacle``: why no option would let it through, "" where one would, or none is needed."""

    rule: Rule | None
    granted: bool
    obstacle: str = ""


def decide(policy: Policy, places: Places, path: str) -> Reached:
    """What a policy says of connecting to a path of the host, or to an abstract name, which begins with ``@``.

    Raises PolicyError as ``granted``.
    """
    if path[:1] == "@":
        return Reached(None, granted=False, obstacle="an abstract socket has no place in a directory, so none can be let through by name")
    first, *others = policy.strata
    parts = components(path)
    rule = _placed(first.under(KEY), places).get(parts)
    against = next((each for each in others if KEY in each.closed and parts not in _placed(each.under(KEY), places)), None)
    if against is not None:
        return Reached(
            rule, granted=False, obstacle=f"the {against.name} policy lists the sockets that may be reached, and this is none of them"
        )
    return Reached(rule, granted=rule is not None)


def _placed(rules: tuple[Rule, ...], places: Places) -> dict[tuple[str, ...], Rule]:
    out = {}
    for rule in rules:
        if wrong := check(rule.subject):
            raise error(rule, f"{rule.subject!r} {wrong}", "Write one path for each.")
        out[place(rule.subject, places).parts] = rule
    return out


def error(rule: Rule, message: str, hint: str) -> PolicyError:
    """A mistake of the rule's author, at its place."""
    origin = rule.origin
    return PolicyError(message, file=origin.file, line=origin.line, column=origin.column, hint=hint)
