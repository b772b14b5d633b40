"""Masks and read-only binds of names in one directory, gathered so that thousands can be carried out in a row.

A plan lists them one by one, each with its reason. On their way to init consecutive ones of one directory are put together:
what matters there is only the directory, opened once, and the names. They are in no one's way: a name can't be above another.
"""

from __future__ import annotations

from houseroom.plan.steps import Bind, Mask, Siblings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from houseroom.plan.steps import Step

_FEW = 2  # up to here entering the directory and leaving it again costs more than it saves
_FEW_KEPT = 8  # the clone that they are bound from costs more


def gather(steps: Iterable[Step]) -> Iterator[Step]:
    """The same steps in the same order, runs of many siblings as one."""
    run: list[Mask | Bind] = []
    directory = ""
    for step in steps:
        here = _directory(step)
        if run and here != directory:
            yield from _together(directory, run)
            run = []
        if isinstance(step, (Mask, Bind)) and here:
            directory = here
            run.append(step)
        else:
            yield step
    yield from _together(directory, run)


def _directory(step: Step) -> str:
    """Where a step's name is, "" for a step that needs more than its name."""
    match step:
        case Mask(path, hollow=False) | Bind(path, write=False, link=False, covered=False):
            return path.rpartition("/")[0] or "/"
    return ""


def _together(directory: str, run: list[Mask | Bind]) -> Iterable[Step]:
    names: dict[str, list[str]] = {"file": [], "dir": [], "kept": []}
    single: list[Step] = []
    few = sum(isinstance(step, Bind) for step in run) <= _FEW_KEPT
    for step in run:
        if isinstance(step, Bind) and few:
            single.append(step)
        else:
            names[step.kind if isinstance(step, Mask) else "kept"].append(step.path.rpartition("/")[2])
    if len(run) - len(single) <= _FEW:
        return run
    return [*single, Siblings(directory, tuple(names["file"]), tuple(names["dir"]), tuple(names["kept"]))]
