"""Gathering siblings changes neither what is mounted nor what lies over what."""

from __future__ import annotations

from facts_kit import ordinary
from hypothesis import given
from hypothesis import strategies as st
from test_compile import DOTS, PLAIN, on_host

from houseroom.plan.compile import compile_plan
from houseroom.plan.siblings import gather
from houseroom.plan.steps import Bind, Mask, Private, Siblings, Step

DIRECTORIES = st.sampled_from(["/w", "/w/a", "/w/a/b", "/w/c", ""])
NAMES = st.integers(0, 40).map("n{}".format)
PATHS = st.builds("{}/{}".format, DIRECTORIES, NAMES)
STEPS = st.one_of(
    st.builds(lambda path: Mask(path, "file", "why"), PATHS),
    st.builds(lambda path: Mask(path, "dir", "why"), PATHS),
    st.builds(lambda path: Mask(path, "dir", "why", hollow=True), PATHS),
    st.builds(
        lambda path, link, covered: Bind(path, write=False, why="why", link=link, covered=covered), PATHS, st.booleans(), st.booleans()
    ),
    st.builds(lambda path: Bind(path, write=True, why="why"), PATHS),
    st.builds(lambda path: Private(path, 0o755, "why"), PATHS),
)


def spread(steps: list[Step]) -> list[Step]:
    """One by one again."""
    out: list[Step] = []
    for step in steps:
        if isinstance(step, Siblings):
            above = "" if step.directory == "/" else step.directory
            out += [Mask(f"{above}/{name}", "file", "why") for name in step.files]
            out += [Mask(f"{above}/{name}", "dir", "why") for name in step.directories]
            out += [Bind(f"{above}/{name}", write=False, why="why") for name in step.kept]
        else:
            out.append(step)
    return out


@given(st.lists(STEPS, max_size=80))
def test_the_same_is_mounted_and_the_order_holds(steps: list[Step]) -> None:
    steps = sorted(steps, key=lambda step: str(getattr(step, "path", "")).count("/"))
    done = spread(list(gather(steps)))
    assert sorted(map(repr, done)) == sorted(map(repr, steps))
    paths = [getattr(step, "path", "") for step in done]
    for at, path in enumerate(paths):
        assert not any(path.startswith(f"{later}/") for later in paths[at + 1 :])


def test_thousands_in_one_directory_travel_as_one() -> None:
    files = {**PLAIN, **{f"/home/me/work/many/{number}.env": "file" for number in range(3000)}}
    made = compile_plan(*on_host(ordinary(("hide", "**/*.env"), ("protect", "**/1?.env")), files))
    assert not any(isinstance(step, Siblings) for step in made.steps)  # a plan says it one by one, each with its reason
    (one,) = [step for step in gather(made.steps) if isinstance(step, Siblings)]
    assert len(one.files) == 2990 and len(one.kept) == 10


def test_a_few_are_left_alone() -> None:
    files = {**PLAIN, "/home/me/work/.env": "file", "/home/me/work/.git": "dir"}
    made = compile_plan(*on_host(ordinary(*DOTS), files))
    assert list(gather(made.steps)) == list(made.steps)
