"""Figures as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks.timing import Sample


def table(result: dict[str, Any]) -> Group:
    """One table of a suite, then what could not be measured."""
    grid = Table(title=result["title"], title_justify="left", title_style="bold")
    grid.add_column("")
    if "samples" in result:
        _times(grid, result)
    elif "figures" in result:
        _facts(grid, result["figures"])
    else:
        _course(grid, result)
    return Group(
        grid, *(Text(f"  not measured: {name}: {reason}", style="yellow") for name, reason in result["unmeasured"].items()), Text()
    )


def _times(grid: Table, result: dict[str, Any]) -> None:
    """Median, least, spread, ratio to the baseline."""
    samples = {name: Sample(tuple(one["times"])) for name, one in result["samples"].items()}
    base = samples.get(result["baseline"])
    for column in ("median ms", "least ms", "spread", f"× {result['baseline']}"):
        grid.add_column(column, justify="right")
    for name, one in sorted(samples.items(), key=lambda item: item[1].median):
        style = "bold" if name == "houseroom" else None
        ratio = f"{one.median / base.median:.2f}" if base else "–"
        grid.add_row(name, f"{one.median:.2f}", f"{one.least:.2f}", f"±{one.spread:.0%}", ratio, style=style)


def _facts(grid: Table, figures: dict[str, dict[str, Any]]) -> None:
    grid.add_column("", justify="right")
    grid.add_column("")
    for name, figure in figures.items():
        grid.add_row(name, _number(figure["value"]), figure["unit"])


def _course(grid: Table, result: dict[str, Any]) -> None:
    for column in result["columns"]:
        grid.add_column(column, justify="right")
    for name, values in result["rows"].items():
        grid.add_row(name, *map(_number, values))


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.2f}"


def bars(results: list[dict[str, Any]]) -> tuple[Table, bool]:
    """Every promise with its ratio or value, and whether all hold."""
    grid = Table(title="bars", title_justify="left", title_style="bold")
    for column in ("what", "against", "ratio", "at most", ""):
        grid.add_column(column)
    verdicts = [_judge(grid, result) for result in results]
    return grid, all(verdicts)


def _judge(grid: Table, result: dict[str, Any]) -> bool:
    if "samples" in result:
        verdicts = [_ratio(grid, result, bar) for bar in result["bars"]]
        return all(verdicts)
    if "rows" in result:
        for fault in result["faults"]:
            grid.add_row(result["title"], fault, "", "", _verdict(good=False))
        if not result["rows"]:
            grid.add_row(result["title"], "", "–", "", Text("not measured", style="yellow"))
        elif not result["faults"]:
            grid.add_row(result["title"], "its begin", "flat", "flat", _verdict(good=True))
        return bool(result["rows"]) and not result["faults"]
    held = not result["unmeasured"]
    for name, figure in result["figures"].items():
        if figure["at_most"] is not None:
            good = figure["value"] <= figure["at_most"]
            held &= good
            limit = f"{_number(figure['at_most'])} {figure['unit']}"
            grid.add_row(f"{result['title']}: {name}", "", _number(figure["value"]), limit, _verdict(good=good))
    return held


def _ratio(grid: Table, result: dict[str, Any], bar: dict[str, Any]) -> bool:
    both = [result["samples"].get(bar[key]) for key in ("ours", "other")]
    what = result["title"] if bar["ours"] == "houseroom" else f"{result['title']}: {bar['ours']}"
    if None in both:
        grid.add_row(what, bar["other"], "–", f"{bar['limit']:.3g}", Text("not measured", style="yellow"))
        return False
    ours, other = (Sample(tuple(one["times"])) for one in both)
    ratio = ours.median / other.median
    good: bool = ratio <= bar["limit"]
    grid.add_row(what, bar["other"], f"{ratio:.3f}", f"{bar['limit']:.3g}", _verdict(good=good))
    return good


def _verdict(*, good: bool) -> Text:
    return Text("holds", style="green") if good else Text("missed", style="red")
