"""The built-in rewards on cases worked out by hand, and beside TRL's own."""

import pytest
from trl.rewards import accuracy_reward

from engine.errors import ConfigError, DataError, EnvironmentMissing
from rl.judges import Child
from rl.judges._program import is_formula
from rl.rewards import load_reward
from rl.sources.reasoning_gym import ReasoningGym, ReasoningGymConfig
from rl.triplets import Limits


def _rewards(spec, completions, ids=None, **columns):
    reward = load_reward(spec)
    count = len(completions)
    given = {"prompts": ["q"] * count, "completions": completions, "completion_ids": ids or [[]] * count}
    return reward.function(**given, **{k: [v] * count for k, v in columns.items()}, **reward.options)


def test_first_line_equals():
    completions = [" 7 \nnoise", "17", "7", "\n7", ""]
    assert _rewards("first_line_equals", completions, answer=7) == [1, 0, 1, 0, 0]
    extract = load_reward("first_line_equals").extract
    assert [extract(c) for c in completions] == ["7", "17", "7", None, None]
    assert _rewards({"name": "first_line_equals", "column": "gold"}, ["7"], gold="7") == [1]


def test_exact_match():
    assert _rewards("exact_match", [" Paris\n", "paris", "Paris."], answer="Paris") == [1, 0, 0]
    assert _rewards({"name": "exact_match", "ignore_case": True}, ["paris"], answer="Paris") == [1]


def test_length_falls_in_a_line():
    spec = {"name": "length", "min_tokens": 2, "max_tokens": 4, "slope_tokens": 4}
    ids = [[0] * n for n in range(10)]
    assert _rewards(spec, [""] * 10, ids) == [0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    with pytest.raises(ConfigError, match="min_tokens=9"):
        _rewards({"name": "length", "min_tokens": 9, "max_tokens": 1}, ["a"], [[1]])


def test_regex_format():
    completions = [
        "<think>a\nb</think>\n<answer>1</answer>",
        "<answer>1</answer>",
        "x <think></think><answer></answer>",
    ]
    assert _rewards("regex_format", completions) == [1, 0, 0]
    assert _rewards({"name": "regex_format", "match": "anywhere"}, completions) == [1, 0, 1]
    with pytest.raises(ConfigError, match="no regular expression"):
        _rewards({"name": "regex_format", "pattern": "("}, ["a"])
    with pytest.raises(ConfigError, match="full, start, anywhere"):
        _rewards({"name": "regex_format", "match": "end"}, ["a"])


def test_math_verify_judges_as_trl_does():
    golds = [r"$\frac{1}{3}$", r"$x^2-1$", r"$\sqrt{8}$", r"$\{1,2\}$", r"$0.5$"]
    answers = [r"\frac{2}{6}", r"(x-1)(x+1)", r"2\sqrt{2}", r"\{2,1\}", r"\frac{1}{2}", "3"]
    given = [*(rf"so it is \boxed{{{answer}}}" for answer in answers), "none"]
    for gold in golds:
        chats = [[{"role": "assistant", "content": text}] for text in given]
        theirs = accuracy_reward(chats, [gold] * len(given))
        assert _rewards("math_verify", given, answer=gold) == theirs
    assert sum(_rewards("math_verify", given, answer=golds[0])) == 1
    assert _rewards("math_verify", [r"\boxed{\frac{2}{6}}"], answer=r"\frac{1}{3}") == [1]


def test_math_verify_reads_bare_answers_and_says_what_it_read():
    assert _rewards("math_verify", ["so it is 12", r"\boxed{12}", "11"], answer="12") == [1, 1, 0]
    assert _rewards("math_verify", [r"\boxed{3}"], answer="no mathematics") == [None]
    extract = load_reward("math_verify").extract
    assert extract(r"thus \boxed{\frac{1}{2}}", answer="0.5") == "1/2"
    assert extract("nothing here", answer="0.5") is None


def test_a_formula_that_never_ends_is_stopped_and_the_next_one_is_judged():
    tower = r"\boxed{9^{9^{9^{9}}}}"
    spec = {"name": "math_verify", "timeout_s": 1.0}
    assert _rewards(spec, [tower, r"\boxed{2}"], answer=r"$9^{9^{9^{8}}}$") == [0, 0]
    assert _rewards(spec, [r"\boxed{2}"], answer="$2$") == [1]


@pytest.mark.parametrize(
    "task", ["chain_sum", "countdown", "polynomial_multiplication", "simple_integration", "n_queens"]
)
def test_reasoning_gym_gives_its_own_answer_full_marks_and_others_less(task, tmp_path):
    target = tmp_path / "written"
    attack = f"<answer>open({str(target)!r}, 'w')</answer>"
    source = ReasoningGym(ReasoningGymConfig(task=task, size=2, held_out=0))
    for prompt in source.train:
        texts = [f"<think>..</think><answer> {prompt.columns['answer']} </answer>", attack, "no tag"]
        right, attacked, untagged = _rewards("reasoning_gym", texts, **prompt.columns)
        assert right == 1.0
        assert max(attacked, untagged) <= 0.05
    assert not target.exists()


def test_reasoning_gym_answers_without_tags():
    [prompt] = ReasoningGym(ReasoningGymConfig(task="chain_sum", size=1, held_out=0)).train
    spec = {"name": "reasoning_gym", "answer_tag": None}
    assert _rewards(spec, [prompt.columns["answer"] + "\nnoise", "noise"], **prompt.columns) == [1, 0]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("3*(2 - 1)/x**2", True),
        ("-exp(x)*sin(x) + log(2.5)", True),
        ("Rational(1, 3) + pi", True),
        ("().__class__", False),
        ("x.real", False),
        ("(1).real", False),
        ("open('f')", False),
        ("exec(x)", False),
        ("[c for c in x]", False),
        ("lambda x: x", False),
        ("x\u00b2", False),
    ],
)
def test_only_formulas_reach_the_parsers_that_evaluate(text, is_one):
    assert is_formula(text) is is_one


def test_a_judge_without_its_package_says_what_to_install(monkeypatch, tmp_path):
    import rl.judges

    program = tmp_path / "program.py"
    program.write_text("""print('{"missing": "No module named math_verify"}', flush=True)\n""")
    monkeypatch.setattr(rl.judges, "PROGRAM", program)
    with pytest.raises(EnvironmentMissing, match=r"No module named math_verify(.|\n)*pip install math-verify"):
        Child("math_verify", package="math-verify").ask({}, 5.0)


def test_judges_see_no_secret(monkeypatch, tmp_path):
    import rl.judges

    program = tmp_path / "program.py"
    program.write_text(
        "import json, os\nprint('[1]', flush=True)\ninput()\nprint(json.dumps(dict(os.environ)), flush=True)\n"
    )
    monkeypatch.setattr(rl.judges, "PROGRAM", program)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    child = Child("any", package="any")
    reply = child.ask({}, 5.0)
    child.close()
    assert "OPENAI_API_KEY" not in reply
    assert reply["PYTHONHASHSEED"] == "0"


def test_a_missing_column_names_those_that_are_there():
    with pytest.raises(DataError, match=r"'first_line_equals' needs the column 'answer'(.|\n)*Did you mean 'answr'"):
        _rewards("first_line_equals", ["7"], answr="7")


def test_solutions_run_within_the_limits_of_the_source_that_asked():
    """An input of 8 characters is wrong where 5 are allowed."""
    row = {
        "role": "solve",
        "form": "tags",
        "task": "abduction",
        "program": "def f(x): return x % 10",
        "inputs": ["3"],
        "message": "",
        "outputs": ["3"],
    }
    answer = "<think>so</think> <answer>```input\n10000003\n```</answer>"
    for limits, reward in (({}, 1.0), ({"limits": Limits(max_chars=5).as_dict()}, 0.0)):
        assert _rewards("triplet", [answer], triplet=row | limits) == [reward]
