"""Sizes and durations as people write them, and back to text.

A size is a whole number with one unit: ``B``, ``K``, ``M``, ``G`` or ``T``, each 1024 times the one before. A duration
is one or more numbers with units, greatest first: ``8h``, ``10m``, ``1h30m``, ``90s``; only seconds may have a fraction.
"""

from __future__ import annotations

SIZES = {"B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
DURATIONS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
LARGEST = 2**63 - 1  # what the kernel's own limits can hold
DIGITS = frozenset("0123456789")


class NotAUnitError(ValueError):
    """A text is not a size or duration. ``hint`` says how to write it."""

    def __init__(self, message: str, hint: str):
        self.message, self.hint = message, hint
        super().__init__(f"{message}. {hint}")


def parse_size(text: str) -> int:
    """Bytes. Raises NotAUnitError that says what is wrong and how to write it."""
    number, unit = text[:-1], text[-1:]
    if not number or not DIGITS.issuperset(number) or unit not in SIZES:
        raise NotAUnitError(f"{text!r} is not a size", _size_hint(text))
    if len(number) > 19 or int(number) * SIZES[unit] > LARGEST:
        raise NotAUnitError(f"{text!r} is more than this system can count", f"The largest size is {LARGEST // SIZES['T']}T.")
    if int(number) == 0:
        raise NotAUnitError(f"{text!r} leaves nothing at all", "Write a size above zero, or leave the key out.")
    return int(number) * SIZES[unit]


def parse_duration(text: str) -> float:
    """Seconds. Raises NotAUnitError that says what is wrong and how to write it."""
    total, rest, units = 0.0, text, list(DURATIONS)
    while rest:
        width = next((at for at, char in enumerate(rest) if char not in DIGITS and char != "."), len(rest))
        number, unit = rest[:width], rest[width : width + 1]
        whole, dot, part = number.partition(".")
        fine = whole and DIGITS.issuperset(whole) and len(whole) <= 12 and unit in units
        if dot:
            fine = fine and unit == "s" and part and DIGITS.issuperset(part) and len(part) <= 9
        if not fine:
            break
        total += float(number) * DURATIONS[unit]
        del units[: units.index(unit) + 1]
        rest = rest[width + 1 :]
    if rest or not text:
        raise NotAUnitError(f"{text!r} is not a duration", _duration_hint(text))
    if total == 0:
        raise NotAUnitError(f"{text!r} leaves no time at all", "Write a duration above zero, or leave the key out.")
    return total


def size_text(size: int) -> str:
    """The shortest exact spelling of a number of bytes."""
    unit = next(unit for unit in reversed(SIZES) if size % SIZES[unit] == 0 and (size or unit == "B"))
    return f"{size // SIZES[unit]}{unit}"


def duration_text(seconds: float) -> str:
    """The spelling of a duration, greatest unit first; exact to the nanosecond."""
    left, parts = int(seconds), []
    fraction = f"{seconds - left:.9f}".rstrip("0").rstrip(".").removeprefix("0")
    if fraction == "1":  # rounded up to a whole second
        left, fraction = left + 1, ""
    for unit, length in DURATIONS.items():
        count, left = divmod(left, length)
        if count or (unit == "s" and fraction):
            parts.append(f"{count}{fraction if unit == 's' else ''}{unit}")
    return "".join(parts) or "0s"


def _size_hint(text: str) -> str:
    bare = text.strip().replace(" ", "")
    number = bare.rstrip("iIbBkKmMgGtT")
    unit = bare[len(number) :].upper().replace("I", "").removesuffix("B") or "B"
    if number and DIGITS.issuperset(number) and unit in SIZES:
        return f'Write "{number}{unit}"; units are B, K, M, G and T, each 1024 of the one before.'
    return 'Write a whole number and one unit, such as "512M" or "4G".'


def _duration_hint(text: str) -> str:
    if text and len(text) <= 12 and DIGITS.issuperset(text):
        return f'Write "{text}s" for seconds or "{text}m" for minutes.'
    return 'Write numbers with d, h, m or s, greatest first, such as "8h", "10m", "1h30m" or "90s".'
