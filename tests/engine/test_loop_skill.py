"""Whether a proposer's skill, and what it is shown, decide how good the result is."""

from __future__ import annotations

import itertools
import json
import random
import re
from statistics import fmean, stdev

import pytest

from engine import Budget, Feedback, optimize, trace
from engine.llm import ScriptedLLM
from engine.optimizers.random import draw

SEEDS = range(10)
SKILLS = (0.0, 0.25, 0.5, 0.75, 1.0)
EVALUATIONS = 12
LETTERS = ["red", "blue", "green", "grey", "pink"]
SECRET = ["red", "grey", "blue", "pink"]
TARGET = (0.8, 0.3)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """Hundreds of short runs: what a power cut would leave of them does not matter here."""
    monkeypatch.setattr("os.fsync", lambda file: None)


class Problem:
    """A traced program with a known optimum: `gap` is 0 there; `improve` makes one right move."""

    def __init__(self):
        self.params = self.make()

    def optimize(self, seed, folder, **options):
        return optimize(
            self.workflow,
            feedback=lambda _, gap: Feedback(-gap, f"{gap:.3f} from the goal"),
            budget=Budget(evaluations=EVALUATIONS, invalid=24),
            seed=seed,
            run_dir=folder,
            workers=1,
            accept="better",
            **options,
        )

    def regret(self, result):
        """Mean gap of the values held after each evaluation."""
        gaps, held = [], -result.baseline
        for evaluation in result.history[1:]:
            held = min(held, -evaluation.score)
            gaps.append(held)
        # A proposer that is done only repeats itself and ends the run early.
        return fmean(gaps + [held] * (EVALUATIONS - len(gaps)))


class Numbers(Problem):
    def make(self):
        self.x = trace.param(0.1, name="x", ge=0, le=1)
        self.y = trace.param(0.9, name="y", ge=0, le=1)
        return [self.x, self.y]

    def workflow(self):
        return abs(self.x - TARGET[0]) + abs(self.y - TARGET[1])

    def improve(self, values):
        return {name: (values[name] + goal) / 2 for name, goal in zip("xy", TARGET, strict=True)}


class Words(Problem):
    """A text of four words that are to be guessed; the gap counts the wrong places."""

    def make(self):
        self.text = trace.param("blue blue green green", name="text", description=" ".join(LETTERS))
        return [self.text]

    def workflow(self):
        return wrong_words(self.text)

    def improve(self, values):
        words = [*values["text"].split(), *LETTERS][:4]
        place = next((i for i in range(4) if words[i] != SECRET[i]), 0)
        words[place] = SECRET[place]
        return {"text": " ".join(words)}


class Choices(Problem):
    def make(self):
        self.places = [trace.param("green", name=f"place{i}", choices=LETTERS) for i in range(4)]
        return self.places

    def workflow(self):
        return wrong_places(*self.places)

    def improve(self, values):
        place = next((i for i in range(4) if values[f"place{i}"] != SECRET[i]), 0)
        return {f"place{place}": SECRET[place]}


@trace.node
def wrong_words(text):
    words = text.split()
    return sum(a != b for a, b in zip(words, SECRET, strict=False)) + abs(len(words) - 4)


@trace.node
def wrong_places(*words):
    return sum(a != b for a, b in zip(words, SECRET, strict=True))


def section(prompt, name):
    """The text under a heading of the prompt; nothing where it is absent."""
    return prompt.partition(f"#{name}\n")[2].partition("\n\n")[0]


def variables(prompt):
    """name -> value of the #Variables section."""
    rows = re.findall(r"^\(\w+\) (\w+) = (.*?)(?:  #.*)?$", section(prompt, "Variables"), re.MULTILINE)
    return {name: json.loads(value) for name, value in rows}


def proposer(problem, skill, seed):
    """Makes the right move with probability `skill`, and else draws as the `random` optimizer does."""
    rng = random.Random(f"proposer/{seed}")
    start = {p.name: p.value for p in problem.params}
    pool = sorted({*LETTERS, *(w for p in problem.params for w in p.name.split())})

    def answer(messages):
        if rng.random() < skill:
            suggestion = problem.improve(variables(messages[-1]["content"]))
        else:
            suggestion = {p.name: draw(p, start[p.name], pool, rng) for p in problem.params}
        return {"reasoning": f"skill {skill}", "suggestion": suggestion}

    return ScriptedLLM(answer)


def regrets(make, tmp_path, name, **options):
    """The regret for each seed; `llm` may be a function of problem and seed."""
    found = []
    for seed in SEEDS:
        problem = make()
        given = {k: v(problem, seed) if callable(v) else v for k, v in options.items()}
        found.append(problem.regret(problem.optimize(seed, tmp_path / f"{name}-{seed}", **given)))
    return found


@pytest.mark.parametrize("make", [Numbers, Words, Choices])
def test_regret_falls_with_skill_and_equals_random_at_none(make, tmp_path):
    levels = [
        regrets(
            make, tmp_path, f"skill{skill}", optimizer="optoprime", llm=lambda p, seed, s=skill: proposer(p, s, seed)
        )
        for skill in SKILLS
    ]
    means = [fmean(level) for level in levels]
    assert all(worse > better for worse, better in itertools.pairwise(means)), means
    control = regrets(make, tmp_path, "random", optimizer={"kind": "random", "candidates": 1})
    error = ((stdev(control) ** 2 + stdev(levels[0]) ** 2) / len(SEEDS)) ** 0.5
    assert abs(means[0] - fmean(control)) <= 2.6 * error, (means[0], fmean(control), error)
    assert means[-1] < fmean(control) - 2.6 * error


class Levers(trace.Module):
    """Six levers, of which one moves the output."""

    def __init__(self, live, goal):
        self.levers = {f"lever{i}": trace.param(0.5, name=f"lever{i}", ge=0, le=1) for i in range(6)}
        self.live, self.goal = live, goal

    def forward(self):
        return position(self.levers[f"lever{self.live}"])

    def __call__(self):
        return self.forward()

    def judge(self, _, out):
        return Feedback(-abs(out - self.goal), "too low" if out < self.goal else "too high")


@trace.node
def position(lever):
    """Where the lever moves it."""
    return lever


def reader(seed):
    """Reads the prompt of OptoPrime as well as it can be read, and guesses what is not in it."""
    rng = random.Random(f"reader/{seed}")

    def answer(messages):
        prompt = messages[-1]["content"]
        values = variables(prompt)
        used = re.findall(r"= position\((\w+)\)", prompt)
        name = used[0] if used else rng.choice(sorted(values))
        entries = re.findall(r"^(\{.*\}): (.*)$", section(prompt, "History"), re.MULTILINE)
        now = section(prompt, "Feedback")
        tried = [(json.loads(found)[name], said) for found, said in entries] + [(values[name], now)]
        low = max((value for value, said in tried if "too low" in said), default=0.0)
        high = min((value for value, said in tried if "too high" in said), default=1.0)
        guess = (low + high) / 2 if entries or now else rng.random()
        if not now:
            guess = rng.random()
        elif len(tried) == 1:
            # No memory: a step of a fixed size in the direction that was asked for.
            guess = min(1.0, max(0.0, values[name] + (0.2 if "too low" in now else -0.2)))
        return {"reasoning": "", "suggestion": {name: guess}}

    return ScriptedLLM(answer)


def test_a_reader_gets_worse_without_the_graph_the_feedback_or_the_history(tmp_path):
    def gap(name, **options):
        found = []
        for seed in range(12):
            rng = random.Random(seed)
            program = Levers(rng.randrange(6), rng.uniform(0.05, 0.95))
            result = optimize(
                program,
                feedback=program.judge,
                optimizer={"kind": "optoprime", **options},
                llm=reader(seed),
                budget=Budget(evaluations=8, invalid=200),
                run_dir=tmp_path / f"{name}-{seed}",
                workers=1,
            )
            found.append(-result.score)
        return fmean(found)

    whole = gap("whole")
    blind = {name: gap(name, **{name: value}) for name, value in (("graph", False), ("feedback", False), ("memory", 0))}
    assert whole < 0.01
    assert all(worse > 3 * whole for worse in blind.values()), (whole, blind)
