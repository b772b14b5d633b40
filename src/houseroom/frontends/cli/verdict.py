"""What ``explain connect`` prints of a decision, of hosts and of sockets alike."""

from __future__ import annotations

import shlex

from houseroom.frontends.cli.paper import BOLD, DIM, GREEN, RED, Column, Paper, Text
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.policy.model import Rule


class Verdict(Record):
    """A decision: whether it ``allows`` to connect to ``subject``, why in words, by which rule, and the command that would allow it.

    ``notes``: what else there is to know, each with the word before it.
    """

    allows: bool
    subject: str
    sentence: str
    rule: Rule | None
    grant: tuple[str, ...]
    notes: tuple[tuple[str, str], ...] = ()

    def document(self, **more: object) -> dict[str, object]:
        """For ``--json``, with more that is said of this kind alone."""
        rule = self.rule
        return {
            "act": "connect",
            "subject": self.subject,
            "decision": "allow" if self.allows else "deny",
            "sentence": self.sentence,
            "rule": None if rule is None else {"key": rule.key, "subject": rule.subject, "reason": rule.reason, "origin": str(rule.origin)},
            "grant": list(self.grant) or None,
            **more,
        }

    def text(self, sheet: Paper) -> str:
        """For a person."""
        rule, (word, style) = self.rule, ("ALLOW", GREEN) if self.allows else ("DENY ", RED)
        head = sheet.prose(Text(f"connect {self.subject}", BOLD), 7)
        said = [("rule", f"{rule} ({rule.origin}, layer {rule.origin.layer})" if rule else "none")]
        said += [("reason", rule.reason)] if rule and rule.reason else []
        rows = [(Text(name, DIM), Text(words)) for name, words in (*said, *self.notes)]
        table = sheet.table(rows, (Column(wrap=False), Column()), indent=7)
        lines = [sheet.ink(word, style) + head[5:], sheet.prose(self.sentence, 7), table]
        if self.grant:
            command = sheet.set(f"{shlex.join(self.grant)} -- COMMAND")
            lines += ["", sheet.prose(Text("To allow it for one run:", BOLD), 7), f"{'':9}{command}"]
        return "\n".join(lines)
