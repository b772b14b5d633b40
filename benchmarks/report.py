"""Figures as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks.timing import Sample


def table(result: dict[str, Any]) -> Group:
    """One suite: median, least, spread, ratio to its baseline; then what could not be measured."""
    samples = {name: Sample(tuple(one["times"])) for name, one in result["samples"].items()}
    base = samples.get(result["baseline"])
    grid = Table(title=result["title"], title_justify="left", title_style="bold")
    grid.add_column("")
    for column in ("median ms", "least ms", "spread", f"× {result['baseline']}"):
        grid.add_column(column, justify="right")
    for name, one in sorted(samples.items(), key=lambda item: item[1].median):
        style = "bold" if name == "houseroom" else None
        ratio = f"{one.median / base.median:.2f}" if base else "–"
        grid.add_row(name, f"{one.median:.2f}", f"{one.least:.2f}", f"±{one.spread:.0%}", ratio, style=style)
    return Group(
        grid, *(Text(f"  not measured: {name}: {reason}", style="yellow") for name, reason in result["unmeasured"].items()), Text()
    )


def bars(results: list[dict[str, Any]]) -> tuple[Table, bool]:
    """Every promise with its ratio, and whether all hold."""
    grid = Table(title="bars", title_justify="left", title_style="bold")
    for column in ("what", "against", "ratio", "at most", ""):
        grid.add_column(column)
    held = True
    for result in results:
        for bar in result["bars"]:
            both = [result["samples"].get(bar[key]) for key in ("ours", "other")]
            if None in both:
                held = False
                grid.add_row(result["title"], bar["other"], "–", f"{bar['limit']:.3g}", Text("not measured", style="yellow"))
                continue
            ours, other = (Sample(tuple(one["times"])) for one in both)
            ratio = ours.median / other.median
            good = ratio <= bar["limit"]
            held &= good
            verdict = Text("holds", style="green") if good else Text("missed", style="red")
            grid.add_row(result["title"], bar["other"], f"{ratio:.3f}", f"{bar['limit']:.3g}", verdict)
    return grid, held
