"""Host names and addresses in one canonical form, and which addresses are nobody's business of a sandbox.

What comes in is whatever a program, a policy or the wire calls a host. ``host`` makes a clean name or an ``Address`` of it, or
refuses it: nothing stays that two readers could take for two things. ``judge`` says why an address is not a public one.

Parsed by hand because the standard library's ``ipaddress`` costs 8 ms to import and refuses spellings that ``connect`` takes.
"""

from __future__ import annotations

from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

LONGEST_NAME: Final = 253  # RFC 1035 §2.3.4: 255 octets on the wire
LONGEST_LABEL: Final = 63
_DECIMAL = frozenset("0123456789")
_OCTAL = frozenset("01234567")
_HEX = frozenset("0123456789abcdef")
_LETTERS_DIGITS_HYPHEN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_MAPPED = bytes(10) + b"\xff\xff"


class Address(Record):
    """An IP address. ``packed`` is in network order: 4 octets of family 4, 16 of family 6."""

    packed: bytes

    @property
    def family(self) -> int:
        """4 or 6."""
        return 4 if len(self.packed) == 4 else 6

    def __str__(self) -> str:
        """The one canonical text: dotted decimal, or RFC 5952."""
        return _dotted(self.packed) if self.family == 4 else _colons(self.packed)

    @property
    def reached(self) -> Address:
        """What the kernel connects to: ``::ffff:a.b.c.d`` on an IPv6 socket goes out as IPv4 to a.b.c.d (RFC 4291 §2.5.5.2)."""
        return Address(self.packed[12:]) if self.family == 6 and self.packed[:12] == _MAPPED else self

    def embedded(self) -> tuple[Address, ...]:
        """Every IPv4 address that a translator or tunnel could read out of an IPv6 address, the likeliest first; none in IPv4."""
        return tuple(Address(inner) for inner in dict.fromkeys(_embedded(self.packed))) if self.family == 6 else ()

    def within(self, network: Network) -> bool:
        """Whether the address lies in a network of its own family."""
        return self.family == network.base.family and _prefix(self.packed, network.length) == _prefix(network.base.packed, network.length)


class Network(Record):
    """All addresses that begin with the first ``length`` bits of ``base``; a single address where that is all of them."""

    base: Address
    length: int

    def __str__(self) -> str:
        whole = self.length == 8 * len(self.base.packed)
        return str(self.base) if whole else f"{self.base}/{self.length}"


def host(text: str) -> str | Address:
    """A canonical name, or the address that the text is a spelling of. Raises ValueError for what is neither."""
    if text[:1] == "[" or ":" in text or "%" in text:
        return address(text)
    found = _inet_aton(text)
    return name(text) if found is None else Address(found)


def name(text: str) -> str:
    """A host name in lower case without its final dot: labels of letters, digits and hyphens, 253 characters at most.

    ``xn--`` labels pass as they are; other alphabets are refused, because the ways of encoding them differ (RFC 5890 and
    before). So is an underscore: ``_dmarc.example.org`` is a record of a service and not a host (RFC 952, RFC 8552). A
    last label that is a number makes it an address in disguise (RFC 3696 §2). Raises ValueError that says which.
    """
    if not text.isascii():
        raise ValueError("has characters outside ASCII: write the xn-- form of the name")
    plain = text.lower()
    plain = plain[:-1] if plain[-1:] == "." else plain
    if not plain:
        raise ValueError("is empty")
    if len(plain) > LONGEST_NAME:
        raise ValueError(f"is longer than {LONGEST_NAME} characters")
    labels = plain.split(".")
    for label in labels:
        _check_label(label)
    if _looks_numeric(labels[-1]):
        raise ValueError("ends in a number, which is how addresses end and names don't")
    return plain


def _check_label(label: str) -> None:
    if not label:
        raise ValueError("has an empty label: two dots in a row, or one at an end")
    if len(label) > LONGEST_LABEL:
        raise ValueError(f"has a label longer than {LONGEST_LABEL} characters")
    for char in label:
        if char not in _LETTERS_DIGITS_HYPHEN:
            raise ValueError("has an underscore in it, which no host's name has" if char == "_" else f"has {char!r} in it")
    if label[0] == "-" or label[-1] == "-":
        raise ValueError("has a label that begins or ends with a hyphen")


def _looks_numeric(label: str) -> bool:
    return set(label) <= _DECIMAL or (label[:2] == "0x" and set(label[2:]) <= _HEX)


def address(text: str) -> Address:
    """The address of any literal spelling: dotted, the shorter, octal and hexadecimal forms of inet_aton(3), IPv6, IPv6 in brackets.

    Raises ValueError, for a zone (``fe80::1%eth0``) too: it names one of the host's interfaces.
    """
    inner = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    if "%" in inner:
        raise ValueError("has a percent sign or zone in it, which no address here may have")
    if ":" in inner:
        return Address(_ipv6(inner))
    found = _inet_aton(text)
    if found is None:
        raise ValueError("is not an IP address")
    return Address(found)


def network(text: str) -> Network:
    """``10.0.0.0/8`` or ``fd00::/8``, without bits behind the prefix, or a single address. Raises ValueError."""
    base_text, slash, length_text = text.partition("/")
    base = address(base_text)
    bits = 8 * len(base.packed)
    if not slash:
        return Network(base, bits)
    if not length_text or set(length_text) - _DECIMAL or len(length_text) > 3 or int(length_text) > bits:
        raise ValueError(f"needs the number of bits behind the slash, 0 to {bits}")
    length = int(length_text)
    if _prefix(base.packed, length) << (bits - length) != int.from_bytes(base.packed, "big"):
        first = Address((_prefix(base.packed, length) << (bits - length)).to_bytes(len(base.packed), "big"))
        raise ValueError(f"has bits behind its prefix: write {first}/{length}")
    return Network(base, length)


def _inet_aton(text: str) -> bytes | None:
    """What inet_aton(3) reads: one to four numbers, decimal, octal (0…) or hexadecimal (0x…), the last one filling the rest."""
    parts = text.split(".")
    if len(parts) > 4 or not text.isascii() or len(text) > LONGEST_NAME:
        return None
    numbers = []
    for part in parts:
        number = _c_number(part.lower())
        if number is None:
            return None
        numbers.append(number)
    *leading, last = numbers
    if any(number > 255 for number in leading) or last >= 256 ** (5 - len(numbers)):
        return None
    return bytes(leading) + last.to_bytes(5 - len(numbers), "big")


def _c_number(part: str) -> int | None:
    """A number as strtoul(3) reads it with base 0, without signs and blanks."""
    if part[:2] == "0x":
        digits, allowed, base = part[2:], _HEX, 16
    elif part[:1] == "0":
        digits, allowed, base = part, _OCTAL, 8
    else:
        digits, allowed, base = part, _DECIMAL, 10
    return int(digits, base) if digits and set(digits) <= allowed else None


def _ipv6(text: str) -> bytes:
    """RFC 4291 §2.2, with a dotted quad at the end where there is one. Raises ValueError."""
    head, gap, tail = text.partition("::")
    left, right = _groups(head, final=not gap), _groups(tail, final=True)
    missing = 16 - len(left) - len(right)
    if (gap and missing < 2) or (not gap and missing) or "::" in tail:
        raise ValueError("is not an IPv6 address")
    return left + bytes(missing) + right


def _groups(text: str, *, final: bool) -> bytes:
    out = b""
    parts = text.split(":") if text else []
    for at, part in enumerate(parts):
        if "." in part and final and at == len(parts) - 1:
            quad = part.split(".")
            plain = all(each and set(each) <= _DECIMAL and (each == "0" or each[0] != "0") and len(each) < 4 for each in quad)
            if len(quad) != 4 or not plain or any(int(each) > 255 for each in quad):
                raise ValueError("is not an IPv6 address")
            out += bytes(map(int, quad))
        elif 0 < len(part) <= 4 and set(part.lower()) <= _HEX:
            out += int(part, 16).to_bytes(2, "big")
        else:
            raise ValueError("is not an IPv6 address")
    return out


def _dotted(packed: bytes) -> str:
    return ".".join(map(str, packed))


def _colons(packed: bytes) -> str:
    """RFC 5952: lower case, the first of the longest runs of two or more zero groups as ``::``, IPv4 dotted where it is mapped."""
    if packed[:12] == _MAPPED:
        return f"::ffff:{_dotted(packed[12:])}"
    groups = [f"{packed[at] << 8 | packed[at + 1]:x}" for at in range(0, 16, 2)]
    start, length, at = 0, 1, 0
    while at < 8:
        end = at
        while end < 8 and groups[end] == "0":
            end += 1
        if end - at > length:
            start, length = at, end - at
        at = end + 1
    if length < 2:
        return ":".join(groups)
    return f"{':'.join(groups[:start])}::{':'.join(groups[start + length :])}"


def _prefix(packed: bytes, length: int) -> int:
    return int.from_bytes(packed, "big") >> (8 * len(packed) - length)


def _embedded(packed: bytes) -> Iterator[bytes]:
    low = packed[12:]
    if packed[:12] == _MAPPED:
        yield low
    if packed[:12] == bytes(12) and low[:3] != bytes(3):  # IPv4-compatible, RFC 4291 §2.5.5.1; :: and ::1 are themselves
        yield low
    if packed[:12] == bytes(8) + b"\xff\xff\0\0":  # IPv4-translated, RFC 2765
        yield low
    if packed[:12] == b"\0\x64\xff\x9b" + bytes(8):  # NAT64, RFC 6052
        yield low
    if packed[:6] == b"\0\x64\xff\x9b\0\1":  # NAT64 of one's own, RFC 8215: the prefix may have any length of RFC 6052 §2.2
        yield low
        yield packed[6:8] + packed[9:11]  # /48
        yield packed[7:8] + packed[9:12]  # /56
        yield packed[9:13]  # /64
    if packed[:2] == b"\x20\x02":  # 6to4, RFC 3056
        yield packed[2:6]
    if packed[:4] == b"\x20\1\0\0":  # Teredo, RFC 4380 §4: the server, and the client with its bits turned
        yield packed[4:8]
        yield bytes(octet ^ 0xFF for octet in low)
    if packed[8:12] in (b"\0\0\x5e\xfe", b"\2\0\x5e\xfe"):  # ISATAP, RFC 5214 §6.1
        yield low


# What is not a public unicast address: (network, what it is, who says so). The first row that holds an address speaks, so
# single addresses stand before the networks around them.
NOT_PUBLIC: Final = (
    ("169.254.169.254", "a cloud's metadata service", "AWS, Azure, Google Cloud, OpenStack"),
    ("169.254.169.253", "a cloud's resolver", "AWS"),
    ("169.254.170.2", "a cloud's credentials service", "AWS ECS"),
    ("169.254.170.23", "a cloud's credentials service", "AWS EKS"),
    ("100.100.100.200", "a cloud's metadata service", "Alibaba Cloud"),
    ("168.63.129.16", "a cloud's host agent", "Azure"),
    ("192.0.0.192", "a cloud's metadata service", "Oracle Cloud"),
    ("fd00:ec2::254", "a cloud's metadata service", "AWS"),
    ("fd00:ec2::253", "a cloud's resolver", "AWS"),
    ("fd00:ec2::23", "a cloud's credentials service", "AWS EKS"),
    ("fd20:ce::254", "a cloud's metadata service", "Google Cloud"),
    ("fd00:42::42", "a cloud's metadata service", "Scaleway"),
    ("0.0.0.0", "unspecified", "RFC 1122"),  # noqa: S104  # nothing is bound here
    ("0.0.0.0/8", "this network", "RFC 1122"),
    ("10.0.0.0/8", "private", "RFC 1918"),
    ("100.64.0.0/10", "shared by a provider's customers", "RFC 6598"),
    ("127.0.0.0/8", "loopback", "RFC 1122"),
    ("169.254.0.0/16", "link-local", "RFC 3927"),
    ("172.16.0.0/12", "private", "RFC 1918"),
    ("192.0.0.0/24", "for protocols only", "RFC 6890"),
    ("192.0.2.0/24", "for documentation", "RFC 5737"),
    ("192.88.99.0/24", "a relay of 6to4", "RFC 7526"),
    ("192.168.0.0/16", "private", "RFC 1918"),
    ("198.18.0.0/15", "for benchmarks", "RFC 2544"),
    ("198.51.100.0/24", "for documentation", "RFC 5737"),
    ("203.0.113.0/24", "for documentation", "RFC 5737"),
    ("224.0.0.0/4", "multicast", "RFC 5771"),
    ("255.255.255.255", "broadcast", "RFC 919"),
    ("240.0.0.0/4", "reserved", "RFC 1112"),
    ("::", "unspecified", "RFC 4291"),
    ("::1", "loopback", "RFC 4291"),
    ("64:ff9b:1::/48", "translated within one's own network", "RFC 8215"),
    ("100::/64", "thrown away", "RFC 6666"),
    ("100:0:0:1::/64", "a dummy", "RFC 9780"),
    ("2001:2::/48", "for benchmarks", "RFC 5180"),
    ("2001:10::/28", "a hash and no place (ORCHID)", "RFC 4843"),
    ("2001:20::/28", "a hash and no place (ORCHID)", "RFC 7343"),
    ("2001:30::/28", "a drone's tag", "RFC 9374"),
    ("2001:db8::/32", "for documentation", "RFC 3849"),
    ("3fff::/20", "for documentation", "RFC 9637"),
    ("5f00::/16", "a segment of a route", "RFC 9602"),
    ("fc00::/7", "private (unique local)", "RFC 4193"),
    ("fe80::/10", "link-local", "RFC 4291"),
    ("fec0::/10", "private (site-local)", "RFC 3879"),
    ("ff00::/8", "multicast", "RFC 4291"),
)  # fmt: skip


def _rows(family: int) -> tuple[tuple[int, int, str], ...]:
    """The table's networks of one family as numbers: bits behind the prefix, prefix, words."""
    rows = [(network(text), f"{what} ({source})") for text, what, source in NOT_PUBLIC]
    bits = 32 if family == 4 else 128
    return tuple((bits - net.length, _prefix(net.base.packed, net.length), words) for net, words in rows if net.base.family == family)


_ROWS = {4: _rows(4), 6: _rows(6)}
_ALLOCATED = network("2000::/3")  # all that IANA gives out as global unicast; the rest of IPv6 is reserved (RFC 4291 §2.4)
_TRANSLATED = network("64:ff9b::/96")  # public where what is inside is
_TEREDO = network("2001::/32")
_PROTOCOLS = network("2001::/23")  # RFC 2928; Teredo is in it


def judge(found: Address, own: frozenset[Address] = frozenset()) -> str:
    """Why an address is not a public unicast one, as words that follow "is": ``loopback (RFC 1122)``; empty where it is public.

    ``own``: the addresses of this host, public ones too: what listens there is not for the sandbox. An IPv6 address is judged
    by the IPv4 addresses in it as well.
    """
    if found in own:
        return "an address of this host"
    number, family = int.from_bytes(found.packed, "big"), found.family
    for behind, prefix, words in _ROWS[family]:
        if number >> behind == prefix:
            return words
    if family == 4:
        return ""
    inside = found.embedded()
    for inner in inside:
        if why := judge(inner, own):
            return f"{inner} in IPv6, which is {why}"
    if found.reached != found or found.within(_TRANSLATED) or found.within(_TEREDO):
        return ""
    if found.within(_PROTOCOLS):
        return "for protocols only (RFC 2928)"
    return "" if found.within(_ALLOCATED) else "reserved (RFC 4291)"
