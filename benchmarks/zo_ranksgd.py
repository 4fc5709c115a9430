"""What ZO-RankSGD reaches by rankings alone, beside CMA-ES at equally many ranked points.

    python benchmarks/zo_ranksgd.py [--seeds 10] [--most 4000] [--plot FILE.html]

Each cell is the median, over seeds, of the loss at the optimizer's point (CMA-ES: its mean) once that many points
were ranked; every point of a round counts, x itself too. All start at the same x0 ~ N(0, I). ZO-RankSGD: m = k = 15,
mu 0.01, l = 5, eta 1, with the paper's gamma 0.1 and with 0.5; and a fixed step, eta 0.1, as a control. CMA-ES: `cma`
with its own defaults and an initial standard deviation of 0.5. --plot writes the curves as SVG in a page.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cma
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import rosen

import engine.report
from engine.jsonfiles import write_text
from engine.report.chart import Series, line_chart
from engine.report.html import Html, tag
from rl.methods.zo_ranksgd import ZORankSGD, loss_ranker, run

Loss = Callable[[np.ndarray], float]
Curve = list[tuple[int, float]]
"""(points ranked, loss) after each round."""

TASKS: dict[str, tuple[Loss, int]] = {
    "quadratic, 20": (lambda x: float(x @ x), 20),
    "quadratic, 100": (lambda x: float(x @ x), 100),
    "Rosenbrock, 20": (lambda x: float(rosen(x)), 20),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "ZO-RankSGD, gamma 0.1": {"eta": 1.0, "gamma": 0.1},
    "ZO-RankSGD, gamma 0.5": {"eta": 1.0, "gamma": 0.5},
    "fixed step": {"eta": 0.1, "line_search": 0},
}
SHOWN = (250, 500, 1000, 2000, 4000)


def by_rankings(loss: Loss, x0: np.ndarray, seed: int, settings: dict[str, Any]) -> Iterator[tuple[int, float]]:
    optimizer = ZORankSGD(x0, m=15, k=15, mu=0.01, seed=seed, **settings)
    ranker = loss_ranker(lambda x: loss(x.numpy()))
    while True:
        count = optimizer.line_search + 1 if optimizer.is_line_search else optimizer.m
        yield count, loss(run(optimizer, ranker, 1).numpy())


def by_cma(loss: Loss, x0: np.ndarray, seed: int) -> Iterator[tuple[int, float]]:
    strategy = cma.CMAEvolutionStrategy(x0, 0.5, {"seed": seed + 1, "verbose": -9})
    while True:
        points = strategy.ask()
        strategy.tell(points, [loss(point) for point in points])
        yield len(points), loss(strategy.mean)


def curve(rounds: Iterator[tuple[int, float]], most: int) -> Curve:
    found, ranked = [], 0
    for count, loss in rounds:
        ranked += count
        if ranked > most:
            return found
        found.append((ranked, loss))
    return found


def measure(task: str, arm: str, seed: int, most: int) -> Curve:
    loss, dims = TASKS[task]
    x0 = np.random.default_rng(seed).standard_normal(dims)
    rounds = by_cma(loss, x0, seed) if arm == "CMA-ES" else by_rankings(loss, x0, seed, SETTINGS[arm])
    return curve(rounds, most)


def at(points: Curve, shown: int) -> float:
    """The loss after the last round within that many points."""
    return [loss for ranked, loss in points if ranked <= shown][-1]


def page(curves: dict[str, dict[str, list[Curve]]], most: int) -> str:
    """The medians over seeds as one chart a task, log10 of the loss by hundreds of points."""
    places = range(100, most + 1, 100)
    charts = [
        line_chart(
            [
                Series(
                    arm, [(n / 100, math.log10(max(statistics.median(at(c, n) for c in runs), 1e-16))) for n in places]
                )
                for arm, runs in arms.items()
            ],
            title=f"log10 loss, {task} dimensions",
            x_name="hundreds of ranked points",
        )
        for task, arms in curves.items()
    ]
    style = Html(Path(engine.report.__file__).with_name("style.css").read_text(encoding="utf-8"))
    head = tag("head", tag("meta", charset="utf-8"), tag("title", "ZO-RankSGD"), tag("style", style))
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *charts, class_='charts')))}\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--most", type=int, default=4000)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shown = [n for n in SHOWN if n <= options.most]
    table = Table("task, dimensions", "", *(f"{n} points" for n in shown))
    curves: dict[str, dict[str, list[Curve]]] = {}
    for task in TASKS:
        for arm in (*SETTINGS, "CMA-ES"):
            runs = [measure(task, arm, seed, options.most) for seed in range(options.seeds)]
            curves.setdefault(task, {})[arm] = runs
            table.add_row(task, arm, *(f"{statistics.median(at(c, n) for c in runs):.2g}" for n in shown))
    Console(width=120).print(table)
    if options.plot:
        write_text(options.plot, page(curves, options.most))


if __name__ == "__main__":
    main()
