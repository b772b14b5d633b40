"""The policy's layers, read from disk and merged.

Organisation: /etc/houseroom/policy.toml · user: ~/.config/houseroom/policy.toml · project: .houseroom/policy.toml in the
workspace · profiles: NAME.toml in the ``profiles`` directory beside the organisation's or the user's file.

Where none of these exists, which is the common case, this costs three failed open(2) calls and imports nothing heavy.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # type checkers for Windows stop reading here

import errno
import os
import stat

from houseroom.errors import PolicyError
from houseroom.policy.model import Origin, Policy, Stratum
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from houseroom.policy.layers import Document
    from houseroom.policy.model import Places, Rule, Setting

SYSTEM = "/etc/houseroom"
LARGEST = 1 << 20
OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a planted FIFO or terminal must not hold us up
ENTER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


class _Shelf(Record):
    """A directory of policies and what must hold of its files: their owners (None: anybody's) and refused mode bits."""

    path: str
    layer: str
    owners: tuple[int, ...] | None
    refused: int
    within: bool = False  # the directory itself may have been made by the agent: no link is followed to it


def load(
    places: Places,
    *,
    profile: str | None = None,
    session_rules: tuple[Rule, ...] = (),
    session_settings: Mapping[str, Setting] = {},
    system: str = SYSTEM,
) -> Policy:
    """The merged policy of this workspace and user.

    ``profile`` is the preset or profile chosen for this run; ``session_rules`` and ``session_settings`` are the command
    line's. Raises PolicyError for any mistake, for a file that others could have written, and for an unknown profile.
    """
    from houseroom.policy.presets import DEFAULT, NAMES, preset

    organisation, user, project = _shelves(places, system)
    texts = [(shelf, _read(shelf, "policy.toml")) for shelf in (organisation, user, project)]
    if all(text is None for _, text in texts) and (profile is None or profile in NAMES):
        base = preset(profile or DEFAULT, sys.platform)
        rules = (*(rule for rule in base.rules if rule.key != "floor.require"), *session_rules)
        stratum = Stratum(base.name, rules, {**base.settings, **session_settings}, base.closed)
        return _completed(Policy(base.name, (stratum,), base.under("floor.require")), places)
    found = [(shelf, text) for shelf, text in texts if text is not None]
    session = (profile, session_rules, session_settings)
    return _merged(places, found, session, (organisation, user))


def project_path(places: Places) -> str:
    """Where the workspace's own policy is, or would be."""
    return f"{places.workspace.rstrip('/')}/.houseroom/policy.toml"


def read_project(places: Places) -> str | None:
    """The text of the workspace's own policy, None where it has none. Raises PolicyError."""
    return _read(_shelves(places, SYSTEM)[2], "policy.toml")


def read_own(places: Places, profile: str = "") -> tuple[str, str | None]:
    """Where the user's own policy or profile is, and its text, None where there is none yet. Raises PolicyError."""
    shelf = _shelves(places, SYSTEM)[1]
    shelf = shelf.with_(path=f"{shelf.path}/profiles") if profile else shelf
    name = f"{profile or 'policy'}.toml"
    return f"{shelf.path}/{name}", _read(shelf, name)


def _shelves(places: Places, system: str) -> tuple[_Shelf, _Shelf, _Shelf]:
    config = f"{places.home.rstrip('/')}/.config/houseroom"
    return (
        _Shelf(system, "organisation", (0,), 0o022),
        _Shelf(config, "user", (places.user, 0), 0o002),
        _Shelf(os.path.dirname(project_path(places)), "project", None, 0, within=True),
    )


def _merged(
    places: Places,
    found: list[tuple[_Shelf, str]],
    session: tuple[str | None, tuple[Rule, ...], Mapping[str, Setting]],
    shelves: tuple[_Shelf, _Shelf],
) -> Policy:
    from houseroom.policy.layers import Document, merge
    from houseroom.policy.parse import check_profile_name, parse
    from houseroom.policy.presets import DEFAULT, NAMES, preset

    profile, rules, settings = session
    documents = [parse(text, layer=shelf.layer, file=f"{shelf.path}/policy.toml") for shelf, text in found]
    if rules or settings or profile is not None:
        if profile is not None and (wrong := check_profile_name(profile)):
            raise PolicyError(f"{profile!r} is not the name of a preset or profile", file="--profile", hint=wrong)
        origin = Origin("session", "--profile") if profile is not None else None
        documents.append(Document("session", "command line", profile, origin, rules, dict(settings)))
    trusted = False
    for shelf, text in found:
        if shelf.layer == "project":
            from houseroom.session.trust import is_trusted

            trusted = is_trusted(places, project_path(places), text)
    theirs = _profiles([document for document in documents if document.layer == "organisation"], shelves[:1], frozenset(NAMES))
    profiles = _profiles(documents, shelves[::-1], frozenset(NAMES))
    known = _names(shelves) if profile is not None or any(document.extends for document in documents) else frozenset()
    name = profile or next((document.extends for document in reversed(documents) if document.extends and document.layer == "user"), DEFAULT)
    presets = {each: preset(each, sys.platform) for each in NAMES}
    policy = merge(
        presets[DEFAULT],
        documents,
        profiles=profiles,
        trusted=trusted,
        name=name,
        presets=presets,
        organisation_profiles=theirs,
        known=known,
    )
    policy = _completed(policy, places)
    _check_examples(policy, places, [*documents, *profiles.values(), *theirs.values()])
    return policy


def _completed(policy: Policy, places: Places) -> Policy:
    """The policy with what follows from it: guards in directories made writable, and the repository's rules by ``git.mode``.

    Only where the preset protects anything: full access stays full.
    """
    if not any(rule.key == "files.protect" and rule.origin.layer == "preset" for rule in policy.strata[0].rules):
        return policy
    first, *others = policy.strata
    written = [rule.subject for rule in first.rules if rule.key == "files.write" and rule.origin.layer != "preset"]
    if written:
        from houseroom.policy import pattern
        from houseroom.policy.presets import guards

        inside = pattern.components(places.workspace)
        roots = [subject for subject in written if pattern.place(subject, places).parts[: len(inside)] != inside]
        first = first.with_(rules=(*(rule for root in dict.fromkeys(roots) for rule in guards(root)), *first.rules))
    git = policy.setting("git.mode")
    if git is None or git.value != "free":
        return policy.with_(strata=(first, *others)) if written else policy
    from houseroom.policy.presets import free_git

    return policy.with_(strata=(free_git(first), *map(_freed, others)))


def _freed(stratum: Stratum) -> Stratum:
    from houseroom.policy.presets import free_git

    protects = any(rule.key == "files.protect" and rule.origin.layer == "preset" for rule in stratum.rules)
    return free_git(stratum) if protects else stratum


def _check_examples(policy: Policy, places: Places, documents: list[Document]) -> None:
    if any(rule.allows or rule.denies for document in documents for rule in document.rules):
        from houseroom.policy.decide import PlacedPolicy
        from houseroom.policy.examples import check_examples

        check_examples(PlacedPolicy(policy, places), {document.file: document.text for document in documents})


def _profiles(documents: list[Document], shelves: tuple[_Shelf, ...], presets: frozenset[str]) -> dict[str, Document]:
    """The profiles that documents extend, directly or through one another; the first shelf that has one wins."""
    from houseroom.policy.parse import parse

    profiles: dict[str, Document] = {}
    wanted = [document.extends for document in documents if document.extends]
    while wanted:
        name = wanted.pop()
        if name in presets or name in profiles:
            continue
        for shelf in shelves:
            beside = shelf.with_(path=f"{shelf.path}/profiles")
            text = _read(beside, f"{name}.toml")
            if text is not None:
                profiles[name] = parse(text, layer=shelf.layer, file=f"{beside.path}/{name}.toml")
                wanted += [extends] if (extends := profiles[name].extends) else []
                break
    return profiles


def _names(shelves: tuple[_Shelf, ...]) -> frozenset[str]:
    """The profiles there are, for suggestions."""
    names: set[str] = set()
    for shelf in shelves:
        try:
            names |= {name.removesuffix(".toml") for name in os.listdir(f"{shelf.path}/profiles") if name.endswith(".toml")}
        except OSError:
            continue  # only a suggestion
    return frozenset(names)


def _read(shelf: _Shelf, name: str) -> str | None:
    """A file's text, None where it or its directory does not exist. Raises PolicyError where it can't be relied on."""
    path = f"{shelf.path}/{name}"
    try:
        directory = os.open(shelf.path, ENTER | (os.O_NOFOLLOW if shelf.within else 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENOTDIR and not os.path.islink(shelf.path):
            return None  # some other file has this name
        raise _unreadable(shelf.path, error) from None
    try:
        _check(os.fstat(directory), shelf, shelf.path)
        try:
            descriptor = os.open(name, OPEN | os.O_NOFOLLOW, dir_fd=directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from None
    finally:
        os.close(directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PolicyError("the policy is not a regular file", file=path, hint="Put a plain file there, or remove it.")
        _check(status, shelf, path)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST:
        raise PolicyError("the policy is larger than 1 MiB", file=path, hint="A policy is a page or two. Look at what is in the file.")
    return _text(content, path)


def _check(status: os.stat_result, shelf: _Shelf, path: str) -> None:
    """Whether only those who may write this layer could have written what we read."""
    if shelf.owners is not None and status.st_uid not in shelf.owners:
        wanted = "root" if shelf.owners == (0,) else f"user {shelf.owners[0]}"
        message = f"can't rely on this policy: it belongs to user {status.st_uid}, not to {wanted}"
        raise PolicyError(message, file=path, hint=f"Look at it, then give it to {wanted} with chown, or remove it.")
    mode = stat.S_IMODE(status.st_mode)
    if mode & shelf.refused:
        who = "everybody" if mode & 0o002 else "its group"
        what = "go-w" if shelf.refused == 0o022 else "o-w"
        message = f"can't rely on this policy: {who} may write it (mode {mode:04o})"
        raise PolicyError(message, file=path, hint=f"Look at it, then: chmod {what} {path}")


def _unreadable(path: str, error: OSError) -> PolicyError:
    if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR and os.path.islink(path)):
        return PolicyError("can't rely on this policy: it is a symbolic link", file=path, hint="Put the file itself there.")
    return PolicyError(f"can't read this policy: {error.strerror}", file=path, hint="Make it readable, or remove it.")


def _text(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise PolicyError("the policy is not UTF-8", file=path, line=line, column=column, hint="Save the file as UTF-8.") from None
