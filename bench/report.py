"""What was measured, as a page and a picture: medians over the rounds, and ratios in one run."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from string import Template
from typing import Any

from delivery import WATCH_SECONDS
from machine import Load
from serving import BATCH, Plan, Served
from transfer import SMALL, Transferred

OWN, LIMIT = "repo-api", "constant"
OWN_TRANSFER, ORAS = "repo-ml, repo-api", "oras"
MANY = 32
REPLICAS, INTERVAL = 1000, 30
FASTER, NEAR_THE_LIMIT, LONE, TRANSFER, PEAK = 20, 0.7, 1.5, 1.1, 150
COLOURS = {OWN: "#0b6e99", OWN_TRANSFER: "#0b6e99", LIMIT: "#b8b8b8"}
OTHER = "#d9a05b"
TEMPLATE = Path(__file__).with_name("RESULTS.template.md")


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that one run measured.

    `look` is the seconds of one look at a channel, `busy` the load average before the run.
    """

    plan: Plan
    serving: dict[str, list[Served]]
    transfer: dict[str, dict[str, Transferred]]
    delivery: dict[str, list[float]]
    look: float
    busy: float
    when: str

    def load(self, name: str, connections: int, size: int = 1) -> Load | None:
        """Return the medians of a load; the constant has no batches."""
        key = (connections, size)
        loads = [one.loads[key] for one in self.serving[name] if key in one.loads]
        if not loads:
            return None
        return Load(
            median(each.per_second for each in loads),
            median(each.p50 for each in loads),
            median(each.p99 for each in loads),
        )

    def faster(self, name: str, size: int = 1) -> float:
        """Return how many times the requests a second of another server repo-api answers."""
        own, other = (self.load(each, MANY, size) for each in (OWN, name))
        return own.per_second / other.per_second if own and other else float("nan")

    def ready(self, name: str) -> float:
        """Return the median of the seconds from start to ready."""
        return median(each.ready for each in self.serving[name])

    def memory(self, name: str) -> float:
        """Return the median of the MiB that are resident after the load."""
        return median(each.memory for each in self.serving[name])

    def transferred(self, size: str, tool: str, what: str) -> tuple[float, float]:
        """Return the median of the seconds, and the highest peak in MiB."""
        costs = self.transfer[size][tool][what]
        return median(each.seconds for each in costs), max(each.peak for each in costs)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table, its first column to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def serving_table(results: Results, size: int) -> str:
    """Write requests a second and times for every server and number of connections."""
    head = ["connections"]
    for connections in results.plan.connections:
        head += [f"{connections}: req/s", "p50, ms", "p99, ms"]
    rows = []
    for name in results.serving:
        loads = [results.load(name, each, size) for each in results.plan.connections]
        cells = [
            figure
            for found in loads
            if found
            for figure in (
                f"{found.per_second:,.0f}",
                f"{found.p50 * 1e3:.2f}",
                f"{found.p99 * 1e3:.2f}",
            )
        ]
        if cells:
            rows.append([name, *cells, f"{results.faster(name, size):.2f}"])
    return table([*head, "ratio"], rows)


def transfer_tables(results: Results) -> str:
    """Write seconds and peak memory for every size and tool."""
    whats = ("push", "pull", "pull again")
    head = [unit for what in whats for unit in (f"{what}, s", "peak, MiB")]
    parts = []
    for size, by_tool in results.transfer.items():
        rows = []
        for tool in by_tool:
            figures = [results.transferred(size, tool, what) for what in whats]
            cells = [cell for s, peak in figures for cell in (f"{s:.2f}", f"{peak:.0f}")]
            rows.append([tool, *cells])
        parts.append(table([size, *head], rows))
    return "\n".join(parts)


def targets_table(results: Results) -> str:
    """Write what was aimed at beside what was measured."""
    peers = [name for name in results.serving if name not in (OWN, LIMIT)]
    rows = []

    def aim(what: str, value: float, bound: float, *, at_least: bool = False) -> None:
        kept = value >= bound if at_least else value <= bound
        side = "at least" if at_least else "at most"
        rows.append([what, f"{side} {bound:g}", f"{value:.2f}" if kept else f"**{value:.2f}**"])

    for name in peers:
        aim(f"requests/s over {name}'s", results.faster(name), FASTER, at_least=True)
    aim("requests/s over the constant's", results.faster(LIMIT), NEAR_THE_LIMIT, at_least=True)
    own, limit = (results.load(name, 1) for name in (OWN, LIMIT))
    if own and limit:
        aim("p50 over the constant's, 1 connection", own.p50 / limit.p50, LONE)
    largest = list(results.transfer)[-1]
    for what in ("push", "pull"):
        seconds, peak = results.transferred(largest, OWN_TRANSFER, what)
        aim(
            f"seconds to {what} {largest} over oras'",
            seconds / results.transferred(largest, ORAS, what)[0],
            TRANSFER,
        )
        aim(f"peak memory to {what} {largest}, MiB", peak, PEAK)
    fastest = min(peers, key=results.ready)
    aim(
        f"seconds from start to ready over {fastest}'s, the fastest peer",
        results.ready(OWN) / results.ready(fastest),
        1,
    )
    return table(["", "aimed at", "measured; **missed**"], rows)


def start_table(results: Results) -> str:
    """Write how long every server takes to be ready, and its memory."""
    head = ["", "start to ready, s", "resident after the load, MiB"]
    rows = [[n, f"{results.ready(n):.2f}", f"{results.memory(n):.0f}"] for n in results.serving]
    return table(head, rows)


def delivery_table(results: Results) -> str:
    """Write how long a delivery takes, by how the API hears of it."""
    named = {
        "told": "`POST /model/reload` as soon as `publish` returns",
        "watching": f"`--watch {WATCH_SECONDS:g}`",
    }
    rows = [
        [named[how], f"{median(s):.2f}", f"{min(s):.2f}", f"{max(s):.2f}", str(len(s))]
        for how, s in results.delivery.items()
    ]
    return table(["", "median, s", "least", "most", "deliveries"], rows)


def write_page(results: Results, page: Path) -> None:
    """Write RESULTS.md."""
    asked = REPLICAS / INTERVAL
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        when=results.when,
        cores=os.cpu_count(),
        machine=platform.machine(),
        python=platform.python_version(),
        busy=f"{results.busy:.2f}",
        rounds=results.plan.rounds,
        seconds=results.plan.seconds,
        targets=targets_table(results),
        one=serving_table(results, 1),
        batch=BATCH,
        many=serving_table(results, BATCH),
        start=start_table(results),
        small=SMALL,
        transfer=transfer_tables(results),
        delivery=delivery_table(results),
        interval=INTERVAL,
        look=f"{results.look * 1e3:.2f}",
        replicas=f"{REPLICAS:,}",
        asked=f"{asked:.0f}",
        share=f"{100 * asked * results.look:.1f}",
        bandwidth=f"{REPLICAS * 64 / INTERVAL / 1024:.1f}",
    )
    page.write_text(text, encoding="utf-8")


def draw_picture(results: Results, picture: Path) -> None:
    """Draw results.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
    names = list(results.serving)
    many = [(n, found.per_second) for n in names if (found := results.load(n, MANY))]
    lone = [(n, found.p50 * 1e3) for n in names if (found := results.load(n, 1))]
    largest = list(results.transfer)[-1]
    moved = [
        (f"{what}: {tool}", results.transferred(largest, tool, what)[0])
        for what in ("push", "pull")
        for tool in results.transfer[largest]
    ]
    ready = [(n, results.ready(n)) for n in names]
    draw_bars(axes[0, 0], f"Requests/s, {MANY} connections (log)", many, "{:,.0f}", log=True)
    draw_bars(axes[0, 1], "p50 of a lone request, ms (log)", lone, "{:.2f}", log=True)
    draw_bars(axes[1, 0], f"{largest}, s", moved, "{:.2f}")
    draw_bars(axes[1, 1], "Start to ready, s", ready, "{:.2f}")
    figure.savefig(picture, dpi=110)


def draw_bars(
    axis: Any,  # noqa: ANN401  # matplotlib is met in one function
    title: str,
    values: Sequence[tuple[str, float]],
    form: str,
    *,
    log: bool = False,
) -> None:
    """Draw bars with their values, the first on top."""
    names = [name for name, _ in values]
    colours = [COLOURS.get(name.rpartition(": ")[2], OTHER) for name in names]
    bars = axis.barh(names, [value for _, value in values], color=colours, log=log)
    axis.bar_label(bars, [form.format(value) for _, value in values], padding=3)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_title(title, loc="left", fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)
