"""Facts about the error tree: what a user reads, and what a shell sees."""

import inspect

import pytest

from engine import errors
from engine.errors import EngineError, ParamError, UnknownName, did_you_mean

DOCUMENTED = {  # the README's table of exit codes
    "EngineError": 1, "AnswerError": 1, "CheckpointError": 1, "NonFinite": 1, "Collapsed": 1,
    "InputError": 2, "ConfigError": 2, "DataError": 2, "ParamError": 2, "TraceError": 2, "UnknownName": 2,
    "ReplayError": 2,
    "EnvironmentMissing": 3, "LLMUnavailable": 3, "SandboxUnavailable": 3,
    "BudgetSpent": 4, "Stopped": 75,
}  # fmt: skip


def test_every_error_has_its_documented_exit_code_and_is_drawn_in_the_tree() -> None:
    classes = {n: c for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, EngineError)}
    assert {name: cls.exit_code for name, cls in classes.items()} == DOCUMENTED
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in classes)


def test_a_message_says_place_allowed_and_next_step_each_on_its_line() -> None:
    error = EngineError("5 is too big", place="a.yaml:3:9", allowed="0 to 4", next_step="lower it")
    assert str(error) == "a.yaml:3:9: 5 is too big\n  allowed: 0 to 4\n  next: lower it"
    assert str(EngineError("5 is too big")) == "5 is too big"


def test_an_unknown_name_offers_the_nearest_and_all_sorted() -> None:
    error = UnknownName("method", "gpro", ["npo", "grpo"], place="x.yaml:3:9 at method.kind")
    assert str(error) == (
        "x.yaml:3:9 at method.kind: no method 'gpro'. Did you mean 'grpo'?\n  allowed: grpo, npo"
    )  # fmt: skip
    assert "no model is installed" in str(UnknownName("model", "x", []))


def test_nothing_is_offered_for_a_name_that_is_near_to_none() -> None:
    assert did_you_mean("zzz", ["grpo", "npo"]) == ""


def test_a_folder_does_not_stand_between_a_name_and_the_nearest() -> None:
    """With the folder, npo.yaml would be nearer: it is shorter."""
    names = ["configs/grpo.yaml", "configs/npo.yaml"]
    assert did_you_mean("gpro.yaml", names) == " Did you mean 'configs/grpo.yaml'?"
    assert did_you_mean("config/gpro.yaml", names) == " Did you mean 'configs/grpo.yaml'?"


def test_a_refused_parameter_value_is_also_a_value_error() -> None:
    with pytest.raises(ValueError, match="not a number"):
        raise ParamError("not a number")
