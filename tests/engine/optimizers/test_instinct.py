"""INSTINCT: which of many proposals are paid for."""

from __future__ import annotations

import hashlib
import random
import re

import numpy as np
import pytest

from engine import Budget, optimize, optimizers, trace
from engine.errors import ConfigError, InputError, LLMUnavailable
from engine.feedback import Feedback
from engine.llm import ScriptedLLM
from engine.optimizers import Candidate, Evaluation, State


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """Many short runs: what a power cut would leave of them does not matter here."""
    monkeypatch.setattr("os.fsync", lambda file: None)


SIZE, LATENT = 12, 4
MIX = np.random.default_rng(7).normal(size=(LATENT, SIZE))


def latent(text):
    """What a text is worth something by: normal numbers that depend on the text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=LATENT)


def vector(text):
    """A text's embedding: its latent numbers, mixed into more dimensions."""
    return latent(text) @ MIX


def linear(text):
    return float(latent(text)[0])


def quadratic(text):
    return -float(np.sum((latent(text) - 1) ** 2))


class Embedding(ScriptedLLM):
    """A proposer of random words that shows hidden states; `embedded` holds the texts asked for."""

    def __init__(self, seed=0, script=None):
        rng = random.Random(seed)
        super().__init__(script or (lambda messages: f"word {rng.getrandbits(40)}"))
        self.embedded = []

    can_embed = True

    def embed(self, texts):
        self.embedded += texts
        return [vector(text).tolist() for text in texts]


def searched(path, score, optimizer, seed, evaluations=40):
    """A run; of `best_of_n` the proposals depend on the seed alone."""
    word = trace.param("start", name="word")

    @trace.node
    def use(word):
        return word

    return optimize(
        lambda: use(word),
        feedback=lambda _, out: score(out),
        optimizer=optimizer,
        llm=Embedding(seed),
        budget=Budget(evaluations=evaluations),
        run_dir=path / f"{seed}-{hashlib.sha256(str(optimizer).encode()).hexdigest()[:8]}",
        seed=seed,
        workers=1,
    )


def needed(result, goal):
    """Evaluations until three reach the goal; one more than were made where they do not."""
    good = [i for i, e in enumerate(result.history[1:], 1) if e.score >= goal]
    return good[2] if len(good) > 2 else len(result.history)


def interval(differences):
    """The 99 % interval of the mean, by 4000 resamples."""
    rng = np.random.default_rng(0)
    means = rng.choice(differences, (4000, len(differences))).mean(axis=1)
    return np.quantile(means, [0.005, 0.995])


BANDIT = {"kind": "instinct", "of": "best_of_n", "warmup": 8}
CHANCE = {**BANDIT, "warmup": 10**6}  # a random choice among the same proposals


@pytest.mark.parametrize("score", [linear, quadratic])
def test_it_needs_fewer_evaluations_than_chance_and_from_shuffled_scores_it_does_not(score, tmp_path):
    goal = np.quantile([score(f"word {i}") for i in range(4000)], 0.95)
    saved, blind = [], []
    for seed in range(10):
        chance = needed(searched(tmp_path, score, CHANCE, seed), goal)
        saved.append(chance - needed(searched(tmp_path, score, BANDIT, seed), goal))
        placebo = searched(tmp_path, score, {"kind": "placebo", "of": BANDIT}, seed)
        blind.append(chance - needed(placebo, goal))
    print(score.__name__, "saved", np.mean(saved), interval(saved), "placebo", np.mean(blind), interval(blind))
    assert interval(saved)[0] > 0
    assert interval(blind)[0] < 0
    assert interval(np.array(saved) - blind)[0] > 0


class Seeded(Embedding):
    """Its words depend on the request's seed alone; the given call of a kind finds the model down."""

    def __init__(self, kind, call):
        super().__init__()
        self.kind, self.left = kind, call

    def complete(self, messages, *, n=1, seed=0, **options):
        self._count("request")
        rng = random.Random(seed)
        return ScriptedLLM(lambda messages: f"word {rng.getrandbits(40)}").complete(messages, n=n)

    def embed(self, texts):
        self._count("text")
        return super().embed(texts)

    def _count(self, kind):
        self.left -= kind == self.kind
        if kind == self.kind and self.left == 0:
            raise LLMUnavailable("down")


@pytest.mark.parametrize(("kind", "call"), [("request", 2), ("request", 3), ("text", 9), ("text", 60), ("text", 100)])
def test_a_run_that_broke_off_ends_as_one_that_did_not(kind, call, tmp_path):
    def run(folder, llm):
        return optimize(
            word_of,
            feedback=lambda _, out: linear(out),
            optimizer=BANDIT,
            llm=llm,
            budget=Budget(evaluations=32),
            run_dir=tmp_path / folder,
            workers=1,
        )

    word = trace.param("start", name="word")

    @trace.node
    def use(word):
        return word

    def word_of():
        return use(word)

    def told(result):
        return [(e.step, e.candidate, e.score, e.accepted) for e in result.history]

    whole = run("whole", Seeded("", 0))
    word.set("start", author="user")
    with pytest.raises(LLMUnavailable):
        run("broken", Seeded(kind, call))
    word.set("start", author="user")
    assert told(run("broken", Seeded("", 0))) == told(whole)


def history_of(scores, failed=()):
    return [
        Evaluation(Candidate({"word": text}), (0,), (Feedback(score, "judged"),), ("",), failed=(text in failed,))
        for text, score in scores.items()
    ]


def state_of(history, llm, seed=0):
    word = trace.param("start", name="word")
    return State([word], {"word": "start"}, [], history, llm, random.Random(seed), 1, initial={"word": "start"})


def test_the_reason_says_what_a_candidate_was_chosen_by(tmp_path):
    result = searched(tmp_path, linear, BANDIT, seed=3, evaluations=24)
    reasons = [e.candidate.reason for e in result.history[1:]]
    assert reasons[:8] == ["a fresh sample"] * 8
    for reason in reasons[8:]:
        found = re.fullmatch(
            r"a fresh sample; UCB (\S+) = (\S+) \+ 0.3 x (\S+), of 32 proposals, read by scripted", reason
        )
        ucb, mean, sigma = map(float, found.groups())
        assert ucb == pytest.approx(mean + 0.3 * sigma, rel=2e-3, abs=2e-3) and sigma > 0


def test_four_proposals_are_drawn_for_each_evaluation_and_only_chosen_ones_are_run(tmp_path):
    result = searched(tmp_path, linear, BANDIT, seed=3, evaluations=16)
    assert result.cost.evaluations == 16 and result.cost.calls == 2
    assert result.cost.completion_tokens == 2 * 2 * 4 * 8  # two words a proposal
    assert result.cost.invalid == 0


def test_the_warm_up_is_random_and_asks_for_no_hidden_states():
    llm = Embedding()
    optimizer = optimizers.make({**BANDIT, "warmup": 3})
    history = history_of({"start": 0.0, "one": 1.0, "two": 2.0})
    found = [optimizer.propose(state_of(history, Embedding(), seed), 2) for seed in range(2)]
    assert not llm.embedded and found[0] != found[1]
    optimizer.propose(state_of([*history, *history_of({"three": 3.0})], llm), 2)
    assert llm.embedded[:4] == ["start", "one", "two", "three"] and len(llm.embedded) == 4 + 8


def test_a_failed_run_counts_as_the_lowest_score():
    """The failed candidates are one place of the space, the good ones another: what lies near the latter is taken."""

    class Placed(Embedding):
        def embed(self, texts):
            return [[1.0, 0.0] if "bad" in text else [0.0, 1.0] for text in texts]

    answers = iter(["bad new", "good new", "bad more", "bad last"])
    llm = Placed(script=lambda messages: next(answers))
    history = history_of({"start": 0.5, "bad 1": None, "bad 2": 9.0, "good": 0.6}, failed={"bad 1", "bad 2"})
    optimizer = optimizers.make({**BANDIT, "warmup": 1, "nu": 0})
    assert [c.values["word"] for c in optimizer.propose(state_of(history, llm), 1)] == ["good new"]


def test_known_and_unusable_proposals_are_passed_over_unless_there_is_nothing_else():
    answers = iter(["start", "", "new", "new"])
    optimizer = optimizers.make({**BANDIT, "of": "best_of_n"})
    found = optimizer.propose(state_of(history_of({"start": 0.0}), Embedding(script=lambda m: next(answers))), 1)
    assert [c.values.get("word") for c in found] == ["new"]
    nothing = Embedding(script=lambda messages: "start")
    found = optimizer.propose(state_of(history_of({"start": 0.0}), nothing), 2)
    assert [c.values for c in found] == [{"word": "start"}] * 2


def test_several_parameters_are_read_in_the_order_of_their_names():
    given = [trace.param(2, name="b"), trace.param("x", name="a"), trace.param(True, name="c")]
    state = State(given, {}, [], [], None, random.Random(0))
    optimizer = optimizers.make("instinct")
    llm = Embedding()
    assert optimizer._embedded(llm, [{"c": False, "a": "words", "b": 3}], state).shape == (1, SIZE)
    assert llm.embedded == ["words\n3\nfalse"]


def test_it_takes_the_wrapped_optimizers_name_needs_and_number():
    optimizer = optimizers.make({"kind": "instinct", "of": {"kind": "optoprime", "candidates": 3}})
    assert optimizer.candidates == 3 and optimizer.needs == {"score", "text", "graph", "hidden_states"}
    assert not optimizers.make({"kind": "instinct", "of": "random"}).needs_llm
    assert optimizers.make("instinct").calls(3) == 3 and optimizer.calls(3) == 1
    with pytest.raises(ConfigError, match="embedder"):
        optimizers.make({"kind": "instinct", "embedder": "openai:gpt"})


def test_an_embedder_that_shows_nothing_is_refused(monkeypatch):
    monkeypatch.setattr("engine.optimizers.instinct.resolve", lambda spec: ScriptedLLM([], name=spec))
    optimizer = optimizers.make({**BANDIT, "warmup": 1})
    state = state_of(history_of({"start": 0.0, "one": 1.0}), ScriptedLLM(lambda m: f"word {random.random()}"))
    with pytest.raises(InputError, match="local:smollm2-135m shows no hidden states"):
        optimizer.propose(state, 1)
