"""Entries of reasoning-gym are those of the package, and the same in every process."""

import os
import subprocess
import sys

import pytest

from engine.errors import ConfigError, UnknownName
from rl.sources.reasoning_gym import ReasoningGym, ReasoningGymConfig

MAKE = """
from rl.sources.reasoning_gym import *
source = ReasoningGym(ReasoningGymConfig(task="polynomial_multiplication", size=4, held_out=0))
print([(p.id, p.prompt, p.columns) for p in source.train])
"""


def _source(**settings):
    return ReasoningGym(ReasoningGymConfig(**{"size": 3, "held_out": 2} | settings))


def test_entries_answers_and_form():
    source = _source(task="chain_sum", options={"min_terms": 2, "max_terms": 2}, suffix="\nAnswer:", system="Add.")
    for prompt in source.train + source.held_out:
        system, user = prompt.prompt
        assert system == {"role": "system", "content": "Add."}
        formula = user["content"].split(":")[1].split("=")[0]
        left, sign, right = formula.split()
        assert int(left) + (int(right) if sign == "+" else -int(right)) == int(prompt.columns["answer"])
        assert user["content"].endswith("\nAnswer:")
    assert [len(source.train), len(source.held_out)] == [3, 2]


def test_the_hash_seed_of_a_process_changes_nothing():
    # Of the package itself it changes the task: it walks over sets.
    def made(seed):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run([sys.executable, "-c", MAKE], env=environment, capture_output=True, check=True).stdout

    assert made("1") == made("2") != b""


def test_unknown_tasks_and_options_are_named():
    with pytest.raises(UnknownName, match="Did you mean 'chain_sum'"):
        _source(task="chain_sums")
    with pytest.raises(ConfigError, match=r"source.options of the task chain_sum: .*min_term"):
        _source(task="chain_sum", options={"min_term": 2})
