"""Immutable records without the start-up price of the standard library's dataclasses.

``import dataclasses`` costs about 12 ms on top of an isolated interpreter (it pulls in ``inspect`` and ``re``),
more than building the whole sandbox. A record has the same surface: annotated fields, keyword or positional
construction, equality, hashing, a readable repr and pattern matching; type checkers see a frozen dataclass.
See docs/adr/0002-records.md.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the typing module costs 9 ms at start-up; type checkers know this name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_options: object) -> Callable[[T], T]:
        return lambda cls: cls


@dataclass_transform(frozen_default=True, eq_default=True)
class Record:
    """Base of all immutable values. Subclasses annotate their fields; a class attribute is a field's default."""

    __match_args__: tuple[str, ...] = ()
    _required: int = 0
    __slots__ = ("__dict__",)

    def __init_subclass__(cls) -> None:
        own = tuple(name for name in cls.__dict__.get("__annotations__", ()) if not name.startswith("_"))
        cls.__match_args__ = (*(f for f in cls.__match_args__ if f not in own), *own)  # type: ignore[misc]  # mypy has it final
        # Up to here a value must be given; from here on every field has a default.
        cls._required = max((at for at, name in enumerate(cls.__match_args__, 1) if not hasattr(cls, name)), default=0)

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = self.__match_args__
        if not named and self._required <= len(values) <= len(fields):  # the presets make about a thousand rules this way
            self.__dict__.update(zip(fields, values))
            return
        if len(values) > len(fields):
            raise TypeError(f"{type(self).__name__} takes {len(fields)} values, got {len(values)}")
        state = dict(zip(fields, values))
        for name, value in named.items():
            if name not in fields or name in state:
                raise TypeError(f"{type(self).__name__} has no field {name!r}, or it was given twice")
            state[name] = value
        if len(state) != len(fields):
            for name in fields:
                if name not in state and not hasattr(type(self), name):
                    raise TypeError(f"{type(self).__name__} lacks {name!r}")
        self.__dict__.update(state)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash((type(self), self.values()))

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__name__}({inner})"

    def values(self) -> tuple[Any, ...]:
        """The fields' values in their order."""
        return tuple(getattr(self, name) for name in self.__match_args__)

    def with_(self, **changes: Any) -> Self:
        """The same record with some fields changed."""
        return type(self)(**{**dict(zip(self.__match_args__, self.values())), **changes})
