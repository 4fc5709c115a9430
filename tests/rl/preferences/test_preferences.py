"""Facts of preferences: both orders are asked, failures are data, faults of the set-up are errors."""

import math
import threading

import pytest
import torch

from engine.errors import ConfigError, EnvironmentMissing, InputError, LLMUnavailable, Stopped, UnknownName
from engine.llm import ScriptedLLM
from engine.ranking import Ranking
from rl.methods.spo import SpoConfig
from rl.preferences import Contest, Verdict, preference_of
from rl.types import Prompt


def preference(section, near=None):
    return preference_of(SpoConfig(preference=section).preference, near)


def contest(texts, pairs=None, rewards=None, prompt="Which?", **columns):
    every = [(i, j) for i in range(len(texts)) for j in range(i + 1, len(texts))]
    rewards = tuple(rewards or [None] * len(texts))
    return Contest(Prompt("id", prompt, columns), tuple(texts), rewards, tuple(pairs or every))


def values(rows):
    return [[verdict.value for verdict in row] for row in rows]


@pytest.fixture
def program(tmp_path):
    """A preference of the given body; it lies beside the config."""

    def write(body, signature="prompt, first, second", **settings):
        (tmp_path / "prefer.py").write_text(f"seen = []\ndef better({signature}):\n    {body}\n", encoding="utf-8")
        return preference({"kind": "program", "function": "prefer.py:better", **settings}, tmp_path / "spo.yaml")

    return write


def test_a_program_is_asked_in_both_orders_and_a_liking_for_a_place_cancels_out(program):
    likes_first = program("return 0.9 if first > second else 0.5")
    [[verdict, tie]] = likes_first([contest(["b", "a", "b"], [(0, 1), (0, 2)])])
    assert verdict == Verdict(pytest.approx((0.9 + 1 - 0.5) / 2), pytest.approx(0.4))
    assert tie == Verdict(0.5, 0.0)


def test_a_program_sees_the_prompt_and_the_columns_that_it_names(program):
    shown = program(
        "return float(prompt == 'Which?' and weight[first] > weight[second])", "prompt, first, second, weight"
    )
    assert values(shown([contest(["a", "b"], weight={"a": 2, "b": 1}, other=3)])) == [[1.0]]
    everything = program("return float(columns == {'other': 3})", "prompt, first, second, **columns")
    assert values(everything([contest(["a", "b"], other=3)])) == [[0.5]]


def test_what_a_program_cannot_say_is_data(program):
    some = program("return None if 'x' in (first, second) else 1 / len(first) if first < second else 0")
    [[known, unknown, failed]] = some([contest(["a", "b", "x", ""], [(0, 1), (0, 2), (0, 3)])])
    assert known.value == 1.0
    assert unknown == Verdict(None, error="the preference has no opinion")
    assert failed.value is None and failed.error.startswith("ZeroDivisionError")


@pytest.mark.parametrize(
    ("body", "message"),
    [("return 1.5", "the preference is 1.5"), ("return 'first'", "'first'"), ("return float('nan')", "nan"),
     ("return undefined", "failed on every pair: NameError")],
)  # fmt: skip
def test_a_program_that_is_wrong_is_an_error(program, body, message):
    with pytest.raises(InputError, match=message):
        program(body)([contest(["a", "b"])])


def test_a_reference_that_means_no_function_is_refused(tmp_path):
    (tmp_path / "prefer.py").write_text("better = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is a int"):
        preference(f"{tmp_path}/prefer.py:better")
    with pytest.raises(UnknownName):
        preference(f"{tmp_path}/prefer.py:worse")


def test_workers_call_at_once(program):
    """None of the four calls comes back before all have been made."""
    met = program("better.barrier.wait()\n    return 0.5", workers=4)
    met.function.barrier = threading.Barrier(4, timeout=30)
    assert values(met([contest(["a", "b"]), contest(["a", "c"])])) == [[0.5], [0.5]]


def judge(script, **settings):
    made = preference({"kind": "judge", "llm": "local:smollm2-135m", **settings})
    made.llm = ScriptedLLM(script, cycle=True)
    return made


def test_a_judge_is_asked_once_an_order_for_the_same_two_answers():
    fair = judge(
        lambda messages: {"better": "first" if "First answer:\n> good" in messages[1]["content"] else "second"}
    )
    rows = fair([contest(["good", "bad", "bad"]), contest(["bad", "good"])])
    assert values(rows) == [[1.0, 1.0, 0.5], [0.0]]
    assert len(fair.llm.calls) == 2
    assert rows[0][0].disagreement == 0.0


def test_a_judge_who_likes_the_first_place_says_nothing_and_it_shows():
    [[verdict]] = judge([{"better": "first"}])([contest(["a", "b"])])
    assert verdict == Verdict(0.5, 1.0)


def test_a_judge_sees_a_chat_as_one_question():
    asked = judge([{"better": "tie"}])
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
    asked([contest(["a", "b"], prompt=chat)])
    assert "> system: Be kind.\n> \n> user: Hello?" in asked.llm.calls[0].messages[1]["content"]


@pytest.mark.parametrize("failure", [LLMUnavailable("down"), "gibberish"])
def test_a_call_that_fails_is_data(failure):
    def script(messages):
        return failure if "> bad" in messages[1]["content"] else {"better": "tie"}

    [[fine, failed, _]] = judge(script)([contest(["a", "b", "bad"])])
    assert fine.value == 0.5 and failed.value is None and failed.error


def test_rewards_decide_or_count_as_odds():
    row = contest(["a", "b", "c", "d"], [(0, 1), (1, 0), (0, 2), (0, 3)], rewards=[2.0, 1.0, 2.0, None])
    assert values(preference({"kind": "rewards"})([row])) == [[1.0, 0.0, 0.5, None]]
    odds = values(preference({"kind": "rewards", "scale": 0.5})([row]))[0]
    assert odds[:3] == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2)), 0.5])


@pytest.fixture(scope="module")
def reward_model(tiny_model, tmp_path_factory):
    """The tiny Llama with one output."""
    from transformers import AutoTokenizer, LlamaForSequenceClassification

    folder = tmp_path_factory.mktemp("reward")
    torch.manual_seed(0)
    LlamaForSequenceClassification.from_pretrained(tiny_model, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def test_a_reward_model_is_bradley_terry_whatever_the_batch(reward_model):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(reward_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    texts = ["7", "12+3=4", "=", "99999"]
    with torch.no_grad():
        scores = [float(model(**tokenizer("1+1=" + text, return_tensors="pt")).logits) for text in texts]
    row = contest(texts, [(0, 1), (1, 0), (2, 3)], prompt="1+1=")
    for size in (1, 3):
        made = preference({"kind": "reward_model", "model": str(reward_model), "scale": 0.1, "batch_size": size})
        wanted = [1 / (1 + math.exp((scores[j] - scores[i]) / 0.1)) for i, j in row.pairs]
        assert values(made([row]))[0] == pytest.approx(wanted, abs=1e-4)


def test_a_reward_model_must_have_one_output(tiny_model, reward_model):
    from transformers import LlamaForSequenceClassification

    with pytest.raises(EnvironmentMissing, match="cannot be loaded"):
        preference({"kind": "reward_model", "model": str(reward_model.parent)})([contest(["7", "8"], prompt="1")])
    two = reward_model / "two"
    LlamaForSequenceClassification.from_pretrained(
        reward_model, num_labels=2, ignore_mismatched_sizes=True
    ).save_pretrained(two)
    for file in reward_model.glob("tokenizer*"):
        (two / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match="has 2 outputs"):
        preference({"kind": "reward_model", "model": str(two)})([contest(["7", "8"], prompt="1")])


RANKER = """
from engine.ranking import ProgramRanker, Ranking, Ranker
asked = []

def rank(items, question):
    asked.append((dict(items), question))
    if question == "Greek?":
        return Ranking(unranked=tuple(items), cannot_judge=True, note="it is Greek")
    return {one: len(text) for one, text in items.items()}

class Absent(Ranker):
    def ask(self, items, *, question=""):
        return "one"
    def poll(self, ticket):
        return None

ranker, absent, nothing = ProgramRanker(rank), Absent(), 3
"""


@pytest.fixture
def rankers(tmp_path):
    (tmp_path / "rankers.py").write_text(RANKER, encoding="utf-8")
    return lambda name, **settings: preference(
        {"kind": "ranker", "ranker": f"{tmp_path}/rankers.py:{name}", **settings}
    )


def test_a_ranker_is_shown_the_different_completions_at_once(rankers):
    made = rankers("ranker")
    rows = made([contest(["aaa", "b", "b", "cc"]), contest(["a", "b"], prompt="Greek?")])
    assert values(rows) == [[1.0, 1.0, 1.0, 0.5, 0.0, 0.0], [None]]
    assert rows[1][0].error == "it is Greek"
    ranking = made.ranker.gather(["0"])[0]
    assert ranking == Ranking([["0"], ["2"], ["1"]])


def test_what_becomes_of_a_ranking_that_does_not_come_is_said_in_the_config(rankers, tmp_path):
    with pytest.raises(Stopped, match="1 of 1 rankings"):
        rankers("absent", deadline_s=0.01, on_absent="stop")([contest(["a", "b"])])
    instead = {"on_absent": "fallback", "fallback": f"{tmp_path}/rankers.py:ranker"}
    assert values(rankers("absent", deadline_s=0.01, **instead)([contest(["a", "bb"])])) == [[0.0]]
    with pytest.raises(ValueError, match="give all, or none"):
        rankers("absent", **instead)
    waiting = rankers("absent")

    def check():
        raise Stopped("enough")

    waiting.check = check
    with pytest.raises(Stopped, match="enough"):
        waiting([contest(["a", "b"])])


def test_a_ranking_that_does_not_come_is_data(rankers):
    [[verdict]] = rankers("absent", deadline_s=0.01)([contest(["a", "b"])])
    assert verdict == Verdict(None, error="no ranking came before the deadline")
    with pytest.raises(ConfigError, match="is a int"):
        rankers("nothing")
