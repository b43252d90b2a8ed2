"""The charts of docs/performance.md, from the results beside this file: `python bench/charts.py`."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
COLOURS = {"postgresql": "#336791", "sqlite": "#3f8f5f", "redis": "#b5423a"}
TITLES = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "redis": "Redis"}


def main() -> None:
    """Draw all of them."""
    mpl.use("Agg")
    IMAGES.mkdir(exist_ok=True)
    side_by_side(_read("validations.json"), "64")
    curves(_read("sizes.json"), _read("one_user.json"))


def side_by_side(document: dict[str, Any], level: str) -> None:
    """Draw the validations per second of each candidate; a panel for each store."""
    stores = {store: _rates(document, level, store=store) for store in TITLES}
    heights = [len(rates) for rates in stores.values()]
    chart, panels = plt.subplots(
        len(stores), 1, figsize=(9, 0.36 * sum(heights) + 1.6), height_ratios=heights, sharex=True, layout="constrained"
    )
    for axes, (store, rates) in zip(panels, stores.items(), strict=True):
        names = sorted(rates, key=lambda name: rates[name])
        shades = [COLOURS[store] if name == "coatcheck" else "#b9c0c7" for name in names]
        bars = axes.barh([name.replace("_", " ") for name in names], [rates[name] for name in names], color=shades)
        axes.bar_label(bars, [_thousands(rates[name]) for name in names], padding=4, fontsize=9)
        axes.set_title(TITLES[store], loc="left", fontsize=10)
        _clean(axes)
        axes.tick_params(left=False)
        axes.margins(x=0.12)
    panels[-1].xaxis.set_major_formatter(FuncFormatter(_thousands))
    chart.suptitle(f"validations per second, {level} at a time, 1 000 000 sessions", x=0.01, ha="left")
    _save(chart, "validations.png")


def curves(by_size: dict[str, Any], of_one_user: dict[str, Any]) -> None:
    """Draw the validations by the number of sessions in the store, and the cost of one user having all of them."""
    chart, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for store in ("postgresql", "sqlite"):
        for level, style in (("1", ":"), ("64", "-")):
            line = {"linestyle": style, "marker": "o", "markersize": 4, "color": COLOURS[store]}
            rates = _by_size(by_size, "coatcheck", store, level)
            left.plot(list(rates), list(rates.values()), label=f"{TITLES[store]}, {level} at a time", **line)
            theirs, others = (_by_size(of_one_user, name, store, level) for name in ("coatcheck_one_user", "coatcheck"))
            right.plot(list(theirs), [others[size] / theirs[size] for size in theirs], **line)
    left.set(ylim=(0, None), title="validations per second", xlabel="sessions in the store")
    left.yaxis.set_major_formatter(FuncFormatter(_thousands))
    right.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=9, loc="lower left")
    right.set(
        ylim=(0.5, 1.5), title="time of one, against sessions of as many users", xlabel="sessions, all of one user"
    )
    for axes in (left, right):
        axes.set(xscale="log")
        axes.title.set_fontsize(10)
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        axes.minorticks_off()
        _clean(axes)
    _save(chart, "sizes.png")


def _by_size(document: dict[str, Any], name: str, store: str, level: str) -> dict[int, float]:
    return {
        one["sessions"]: _rate(one, level)
        for one in document["candidates"]
        if (one["name"], one["store"]) == (name, store)
    }


def _rates(document: dict[str, Any], level: str, *, store: str) -> dict[str, float]:
    return {
        one["name"]: _rate(one, level)
        for one in document["candidates"]
        if one["store"] == store and level in one["runs"]
    }


def _rate(candidate: dict[str, Any], level: str) -> float:
    return median(run["operations"] / run["seconds"] for run in candidate["runs"][level])


def _thousands(value: float, _position: int | None = None) -> str:
    return f"{value:,.0f}".replace(",", "\u2009")


def _clean(axes: Axes) -> None:
    axes.grid(visible=True, axis="both" if axes.get_xscale() == "log" else "x", alpha=0.25)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _save(chart: Any, name: str) -> None:  # noqa: ANN401 (a figure, or a part of one)
    chart.savefig(IMAGES / name, dpi=120)
    plt.close(chart)


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return document


if __name__ == "__main__":
    main()
