"""Which proposals are valid, which answers right, and what a model's text cannot do to the trainer."""

from __future__ import annotations

import random

import pytest

from rl.triplets import FORMS, Buffer, Limits, Proposal, Triplet, are_right, checked, static_fault

LIMITS = Limits(timeout_s=1.0)


def proposal(program: str, given: str = "'Hello world'") -> Proposal:
    return Proposal("deduction", program, (given,))


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def f(a): return", "value or none"),
        ("def f(a): return a +", "syntax"),
        ("def g(a): return a", "function"),
        ("import os\ndef f(a): return os.name", "import"),
        ("def f(a): return __import__('os').getpid()", "import"),
        ("def f(a): return eval('__imp' + 'ort__')('os').name", "import"),
        ("def f(a): return ().__class__.__base__.__subclasses__()", "import"),
        ("def f(a): return 1 / 0", "failed"),
        ("def f(a):\n    while True: pass", "timeout"),
        ("def f(a): return sorted({'p', 'q', 'r', 's', 't', 'u', a}, key=hash)", "random"),
        ("def f(a): return hash(a)", "random"),
        ("def f(a): return id", "failed"),
        ("def f(a): return float('inf')", "value"),
        ("def f(a): return 10 ** 5000", "value"),
    ],
)
def test_what_is_not_valid(program: str, reason: str) -> None:
    (found,) = checked([proposal(program)], LIMITS)
    if reason == "value or none":
        assert isinstance(found, Triplet)
        assert found.outputs == ("None",)
    else:
        assert found == reason


def test_the_output_is_whole_and_from_the_sandbox() -> None:
    (found,) = checked([proposal("import math\ndef f(a): return a * math.factorial(5)", "'ab'")], LIMITS)
    assert isinstance(found, Triplet)
    assert found.outputs == (repr("ab" * 120),)
    (large,) = checked([proposal("def f(a): return list(range(300))")], LIMITS)
    assert isinstance(large, Triplet)
    assert large.outputs == (str(list(range(300))),)


def test_a_proposal_with_a_number_too_long_to_print_has_a_key() -> None:
    """Hexadecimal digits are read without limit; 4,000 of them are more decimal digits than Python prints."""
    long = proposal(f"def f(a): return 0x{'f' * 4000}")
    assert static_fault(long, LIMITS) is None
    assert long.key != proposal("def f(a): return 1").key


def triplet(task: str, program: str, inputs: list[str], outputs: list[str]) -> Triplet:
    return Triplet(task, program, tuple(inputs), "", tuple(outputs))  # type: ignore[arg-type]


def test_deduction_is_judged_by_value_and_exact_type() -> None:
    asked = triplet("deduction", "def f(a): return a", ["1"], ["{'a': 1, 'b': 2}"])
    answers = ["{'b':2,'a':1}", "{'a': 1, 'b': 2.0}", "{'a': True, 'b': 2}", "dict(a=1, b=2)", "", None]
    assert are_right(asked, answers, LIMITS) == [True, False, False, False, False, False]


def test_abduction_takes_any_input_that_gives_the_output() -> None:
    asked = triplet("abduction", "def f(a, b=0): return abs(a) + b", ["3"], ["3"])
    answers = ["3", "-3", "1, 2", "4", "__import__('os').getpid()", "3.0", None]
    assert are_right(asked, answers, LIMITS) == [True, True, True, False, False, False, False]


def test_induction_is_judged_on_the_hidden_half() -> None:
    inputs, outputs = ["1", "2", "3", "4"], ["1", "2", "6", "8"]
    asked = triplet("induction", "def f(a): return a if a < 3 else 2 * a", inputs, outputs)
    shown_only = "def f(a): return a"
    by_heart = "def f(a): return {3: 6, 4: 8}[a]"
    half = "def f(a): return 6"
    other_import = "import os\ndef f(a): return a if a < 3 else 2 * a"
    answers = [asked.program, shown_only, by_heart, half, other_import]
    assert are_right(asked, answers, LIMITS) == [True, False, True, False, False]


def test_a_question_does_not_hold_its_answer() -> None:
    secret = triplet("induction", "def f(a): return a + 'q'", ["'1'", "'2'"], ["'1q'", "'zebra'"])
    for form in FORMS.values():
        asked = form.solve(secret)
        assert "'1q'" in asked
        assert "'2'" not in asked
        assert "zebra" not in asked
        assert secret.program not in asked
    for task, hidden in (("deduction", "'zebra'"), ("abduction", "'yak'")):
        one = triplet(task, "def f(a): return a", ["'yak'"], ["'zebra'"])
        assert hidden not in FORMS["tags"].solve(one)


def test_the_paper_s_form() -> None:
    tags = FORMS["tags"]
    answer = "```python\ndef f(a):\n    return a\n```\n```input\n1, 'b'\n```"
    right = f"<think>hm</think>\n<answer>{answer}</answer>"
    read = tags.answer("propose", "deduction", right)
    assert read is not None
    found = tags.proposal("deduction", read, "", 10)
    assert found == Proposal("deduction", "def f(a):\n    return a", ("1, 'b'",))
    for wrong in (answer, f"<answer>{answer}</answer>", f"{right} and more", "<think>no end"):
        assert tags.answer("propose", "deduction", wrong) is None


def test_an_induction_needs_all_of_its_inputs_and_different_ones() -> None:
    line, program = FORMS["line"], "def f(x): return x"
    assert line.proposal("induction", "f(1), f(2)", program, 2) is not None
    assert line.proposal("induction", "f(1), f( 1 )", program, 2) is None
    assert line.proposal("induction", "f(1)", program, 2) is None


def test_a_full_buffer_drops_its_oldest() -> None:
    made = [triplet("deduction", f"def f(a): return {i}", ["0"], [str(i)]) for i in range(4)]
    buffer = Buffer(3, made[:3])
    assert not buffer.add(made[1])
    assert buffer.add(made[3])
    assert list(buffer) == made[1:]
    assert buffer.sample(9, random.Random(0)) != []
    assert len(buffer.sample(2, random.Random(0))) == 2
