"""Facts about Feedback: what users may return, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from engine.feedback import Feedback, as_feedback

finite = st.floats(-1e6, 1e6)


@given(finite)
def test_a_number_is_a_score(score: float) -> None:
    assert as_feedback(score) == Feedback(score=score)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, Feedback(score=1.0)),
        (3, Feedback(score=3.0)),
        ("too long", Feedback(text="too long")),
        ({"speed": 1, "taste": 0.5}, Feedback(score={"speed": 1.0, "taste": 0.5})),
        (Feedback(score=1, text="good"), Feedback(score=1, text="good")),
    ],
)
def test_what_a_feedback_function_may_return(value: object, expected: Feedback) -> None:
    assert as_feedback(value) == expected


@pytest.mark.parametrize("value", [None, [], {}, {"a": "b"}, object(), "", math.nan, math.inf, {"a": math.nan}])
def test_what_it_may_not_return_is_refused_with_the_reason(value: object) -> None:
    with pytest.raises(InputError) as refused:
        as_feedback(value)
    assert refused.value.allowed is not None


@pytest.mark.parametrize("score", ["0.5", [1.0], {"a": "1"}])
def test_a_score_that_is_no_number_is_refused(score: object) -> None:
    with pytest.raises(InputError, match="score"):
        Feedback(score=score)  # type: ignore[arg-type]


def test_several_objectives_count_as_their_mean() -> None:
    assert Feedback(score={"a": 1.0, "b": 0.0}).scalar == 0.5
    assert Feedback(score=0.25).scalar == 0.25
    assert Feedback(text="so so").scalar is None


def test_an_empty_mapping_of_objectives_is_refused() -> None:
    with pytest.raises(InputError):
        Feedback(score={})


def test_a_feedback_is_not_changed_through_the_mapping_it_was_made_of() -> None:
    scores = {"a": 1.0}
    feedback = Feedback(score=scores)
    scores["a"] = math.nan
    assert feedback.scalar == 1.0


def test_json_is_plain() -> None:
    assert Feedback(score={"a": 1.0}, text="x").to_json() == {"score": {"a": 1.0}, "text": "x"}
