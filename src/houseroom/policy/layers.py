"""From documents to one policy: which layers speak together, which narrow one another, and what a document extends.

The preset, the user's file, a trusted project's file and the session speak in one stratum: later ones refine earlier
ones. The organisation's file and an untrusted project's file each speak in a stratum of their own, which can only
narrow. Within one voice:

- lists are added to, never replaced; a later rule on the same path takes the place of an earlier one;
- an empty ``files.write``, ``network.allow``, ``network.publish``, ``network.sockets``, ``network.credentials`` or
  ``environment.pass`` takes back what the earlier documents granted there (taking back any other list could widen: ``hide = []``
  adds nothing);
- the last document that says ``extends`` chooses what the voice starts from.

A profile chosen for one run (the session's ``extends``) stands in for what the user's and the project's files grant: of them
only what narrows stays (hide, protect, withhold, deny, limits, floor), so ``--profile read-only`` is read-only.
"""

from __future__ import annotations

from houseroom.errors import CannotEnforce, PolicyError
from houseroom.policy.model import LAYERS, Policy, Rule, Setting, Stratum
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from houseroom.policy.model import Origin

TAKEN_BACK_BY_EMPTY = frozenset(
    {"files.write", "network.allow", "network.publish", "network.sockets", "network.credentials", "environment.pass"}
)
NARROWING = frozenset({"files.hide", "files.protect", "environment.withhold", "network.deny"})
NARROWING_SETTINGS = ("limits.", "session.")

# Why a policy that says this is refused, told to a person.
DENIED_IN_OPEN = 'the host\'s own network knows no single hosts: say reach = "listed" with what may be reached'
UNSEEN = 'on the host\'s own network nobody can put a credential in: say reach = "listed"'
GIT_GUARDED = "the guard that runs git outside the sandbox does not exist yet"


class Document(Record):
    """One policy file, parsed. ``closed`` names the list keys it wrote, empty ones too. ``text`` is for errors."""

    layer: str
    file: str
    extends: str | None = None
    extends_origin: Origin | None = None
    rules: tuple[Rule, ...] = ()
    settings: dict[str, Setting] = {}
    closed: frozenset[str] = frozenset()
    floor: tuple[Rule, ...] = ()
    text: str = ""


def merge(
    base: Stratum,
    documents: Sequence[Document],
    *,
    profiles: Mapping[str, Document],
    trusted: bool,
    name: str,
    presets: Mapping[str, Stratum] | None = None,
    organisation_profiles: Mapping[str, Document] | None = None,
    known: frozenset[str] = frozenset(),
) -> Policy:
    """One policy from a preset and the documents of all layers.

    ``base`` is what the joined voice starts from when no document of it says ``extends``. ``trusted`` is about the project's
    document. ``profiles`` are those that the user's, the project's and the session's documents may extend; the
    organisation's document extends only ``organisation_profiles``, which a user can't write. ``known`` are further
    names of profiles, for suggestions. Raises PolicyError for an unknown or circular ``extends``.
    """
    if presets is None:
        from houseroom.policy.presets import NAMES, preset

        presets = {each: preset(each) for each in NAMES}
    theirs = organisation_profiles or {}
    everyone = {**theirs, **profiles}
    ordered = sorted(documents, key=lambda document: LAYERS.index(document.layer))
    apart = [document for document in ordered if document.layer == "organisation" or (document.layer == "project" and not trusted)]
    joined = [document for document in ordered if document not in apart]

    strata = []
    floor: list[Rule] = []
    start: Stratum | None = base
    if (chooser := next((document for document in reversed(joined) if document.extends is not None), None)) is not None:
        start, chain = _chain(chooser, everyone, presets, known)
        if chooser.layer == "session":
            joined = [_narrowing(document) if document.layer in ("user", "project") else document for document in joined]
        at = joined.index(chooser)
        joined[at : at + 1] = chain
    strata.append(_speak(name, start, joined, closed=frozenset({"files.read", "files.write"})))
    floor += _floor(start, joined)
    for document in apart:
        shelf = theirs if document.layer == "organisation" else everyone
        start, chain = _chain(document, shelf, presets, known) if document.extends is not None else (None, [document])
        whole = frozenset({"files.read", "files.write"}) if start is not None else frozenset()
        strata.append(_speak(document.layer, start, chain, closed=whole))
        floor += _floor(start, chain)
    return Policy(name, tuple(strata), tuple({rule.subject: rule for rule in reversed(floor)}.values())[::-1])


def unenforced(policy: Policy) -> tuple[Rule | Setting, ...]:
    """The parts of a policy that nothing enforces yet, in the order of its strata."""
    return tuple(part for _, part, _ in _unenforced(policy))


def refuse_unenforced(policy: Policy, accepted: frozenset[str] = frozenset()) -> None:
    """Raises CannotEnforce that names each key which nothing enforces yet, unless it is among ``accepted``."""
    found = [(key, part, why) for key, part, why in _unenforced(policy) if key not in accepted]
    if not found:
        return
    keys = tuple(dict.fromkeys(key for key, _, _ in found))
    why = {key: f"{reason} ({part.origin})" for key, part, reason in reversed(found)}
    accept = " ".join(f"--accept {key}" for key in keys)
    raise CannotEnforce(keys, "; ".join(why[key] for key in keys), f"Take it out of the policy, or run without it: {accept}")


def error_at(origin: Origin, text: str, message: str, hint: str = "") -> PolicyError:
    """A PolicyError at a place, with its line where the text is at hand."""
    from houseroom.policy.toml_places import TomlPlaces

    line = printable(TomlPlaces(text).line(origin.line)) if text else ""
    return PolicyError(message, file=origin.file, line=origin.line, column=origin.column, text=line, hint=hint)


def printable(line: str) -> str:
    """A line as an error shows it: as many characters, none that a terminal would obey; nothing if far too long."""
    return "".join(char if char.isprintable() else " " for char in line) if len(line) <= 400 else ""


def _unenforced(policy: Policy) -> list[tuple[str, Rule | Setting, str]]:
    found: list[tuple[str, Rule | Setting, str]] = []
    reach, git = policy.setting("network.reach"), policy.setting("git.mode")
    if reach is not None and reach.value == "open":
        found += [(rule.key, rule, DENIED_IN_OPEN) for stratum in policy.strata for rule in stratum.under("network.deny")]
        found += [(rule.key, rule, UNSEEN) for stratum in policy.strata for rule in stratum.under("network.credentials")]
    if git is not None and git.value == "guarded" and git.origin.layer != "preset":
        found.append(("git.mode", git, GIT_GUARDED))
    return found


def _chain(
    document: Document, shelf: Mapping[str, Document], presets: Mapping[str, Stratum], known: frozenset[str]
) -> tuple[Stratum | None, list[Document]]:
    """What a document extends: the preset at the bottom (None where there is none), and the documents from there up."""
    chain = [document]
    seen: list[str] = []
    while (current := chain[0]).extends is not None:
        name = current.extends
        if name in presets:
            return presets[name], chain
        origin = current.extends_origin
        assert origin is not None  # written wherever ``extends`` is
        if name in seen:
            circle = " → ".join([*seen[seen.index(name) :], name])
            raise error_at(origin, current.text, f"the profile {name!r} extends itself: {circle}", "Let one of them extend a preset.")
        if name not in shelf:
            raise _unknown(current, name, {*presets, *shelf, *known})
        seen.append(name)
        chain.insert(0, shelf[name])
    return None, chain


def _unknown(document: Document, name: str, names: set[str]) -> PolicyError:
    from houseroom.policy.keys import suggest

    close = suggest(name, tuple(sorted(names)))
    hint = f'Did you mean "{close}"?' if close else f"There are {', '.join(sorted(names))}."
    origin = document.extends_origin
    assert origin is not None
    return error_at(origin, document.text, f"there is no preset or profile {name!r}", hint)


def _narrowing(document: Document) -> Document:
    """What stays of the user's or the project's file when a profile was chosen for this run."""
    return document.with_(
        extends=None,
        rules=tuple(rule for rule in document.rules if rule.key in NARROWING),
        settings={key: setting for key, setting in document.settings.items() if key.startswith(NARROWING_SETTINGS)},
        closed=document.closed & NARROWING,
    )


def _speak(name: str, start: Stratum | None, documents: Iterable[Document], *, closed: frozenset[str]) -> Stratum:
    """One voice: a start and what later documents add to it."""
    rules: list[Rule] = [rule for rule in start.rules if rule.key != "floor.require"] if start else []
    settings = dict(start.settings) if start else {}
    closed |= start.closed if start else frozenset()
    for document in documents:
        written = {rule.key for rule in document.rules}
        again = {spelling(rule) for rule in document.rules}
        gone = {key for key in document.closed & TAKEN_BACK_BY_EMPTY if key not in written}
        rules = [rule for rule in rules if rule.key not in gone and spelling(rule) not in again]
        rules += document.rules
        settings |= document.settings
        closed |= document.closed
    return Stratum(name, tuple(rules), settings, closed)


def spelling(rule: Rule) -> tuple[str, str]:
    """What a rule speaks about: two rules of which the later takes the earlier one's place spell the same."""
    section, _, _ = rule.key.rpartition(".")
    if section == "files":
        return section, _plain(rule.subject)
    if rule.key == "network.credentials":
        from houseroom.policy import credentials

        return rule.key, credentials.subject(rule.subject)
    return section, rule.subject.upper() if section == "environment" else rule.subject


def _plain(subject: str) -> str:
    """One spelling for ``src``, ``./src/`` and ``{workspace}/src``."""
    if subject == "~" or subject.startswith("~/"):
        subject = "{home}" + subject[1:]
    elif not subject.startswith(("/", "{")):
        subject = "{workspace}/" + subject
    lead = "/" if subject.startswith("/") else ""
    return lead + "/".join(part for part in subject.split("/") if part not in ("", "."))


def _floor(start: Stratum | None, documents: Iterable[Document]) -> list[Rule]:
    return [*(start.under("floor.require") if start else ()), *(rule for document in documents for rule in document.floor)]
