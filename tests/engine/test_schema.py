from __future__ import annotations

import pytest

from engine import schema
from engine.errors import ConfigError, DataError, EngineError, UnknownName

PROGRAM = """
from engine import trace

word = trace.param("a", name="word")
examples = [1, 2]
number = 3

@trace.node
def repeat(word, times):
    return word * times

def workflow(example):
    return repeat(word, example)

def score(example, output):
    return len(output)

def more():
    return [3]
"""
CONFIG = """workflow: program.py:workflow
feedback: program.py:score
data: program.py:examples
optimizer: {kind: random, candidates: 4}
budget: {evaluations: 8}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "program.py").write_text(PROGRAM)

    def call(text=CONFIG):
        path = tmp_path / "configs" / "run.yaml"
        path.write_text(text)
        return path

    return call


def test_a_config_names_all_that_optimize_needs(write):
    found = schema.load(write(CONFIG + "validation: program.py:more\ncontrols: [random]\n"), ["seed=3"])
    arguments = found.arguments()
    assert found.workflow(2) == "aa" and found.optimizer.config.candidates == 4
    assert (arguments["data"], arguments["validation"], arguments["seed"]) == ([1, 2], [3], 3)
    assert arguments["budget"].evaluations == 8 and arguments["budget"].invalid == 64
    assert (
        schema.check(write(), []) == "random on program.py:workflow with 2 examples; budget: evaluations 8, invalid 64"
    )


def test_a_jsonl_file_is_data_to_its_last_line(write, tmp_path):
    (tmp_path / "configs" / "data.jsonl").write_text('{"a": 1}\n\n"text"\n[3]')
    found = schema.load(write(CONFIG.replace("program.py:examples", "data.jsonl")))
    assert found.data == [{"a": 1}, "text", [3]]


FAULTS = {
    "misspelt key": (
        "workflw: x\n",
        ConfigError,
        r"run.yaml:1:10 at workflw: unknown key 'workflw'. Did you mean 'workflow'",
    ),
    "missing key": ("workflow: program.py:workflow\n", ConfigError, r"at feedback: the key is missing"),
    "wrong type": (CONFIG + "workers: many\n", ConfigError, r"run.yaml:6:10 at workers: 'many'"),
    "limit misspelt": (
        CONFIG.replace("evaluations", "evals"),
        ConfigError,
        r"run.yaml:5:17 at budget.evals: unknown key",
    ),
    "unknown optimizer": (
        CONFIG.replace("kind: random", "kind: rndom"),
        UnknownName,
        r"run.yaml:4:19 .*Did you mean 'random'",
    ),
    "unknown option": (CONFIG.replace("candidates", "candidats"), ConfigError, r"run.yaml:4:38 at optimizer.candidats"),
    "unknown control": (CONFIG + "controls: [radnom]\n", UnknownName, r"run.yaml:6.*Did you mean 'random'"),
    "no such file": (
        CONFIG.replace("program.py:workflow", "prog.py:workflow"),
        EngineError,
        r"run.yaml:1:11 at workflow",
    ),
    "no such function": (
        CONFIG.replace("py:workflow", "py:workflw"),
        EngineError,
        r"at workflow: .*Did you mean 'workflow'",
    ),
    "not a function": (CONFIG.replace("py:score", "py:number"), ConfigError, r"at feedback: feedback is a int"),
    "not a list": (CONFIG.replace("py:examples", "py:number"), ConfigError, r"at data: 'program.py:number' is 3"),
    "no such data": (
        CONFIG.replace("program.py:examples", "absent.jsonl"),
        DataError,
        r"at data: there is no file 'absent.jsonl'",
    ),
    "no reference": (
        CONFIG.replace("program.py:workflow", "workflow"),
        EngineError,
        r"at workflow: 'workflow' is not FILE:NAME",
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_is_told_at_its_place(write, kind):
    text, error, message = FAULTS[kind]
    with pytest.raises(error, match=message) as caught:
        schema.load(write(text))
    assert caught.value.exit_code == 2


def test_damaged_data_is_told_with_its_line(write, tmp_path):
    (tmp_path / "data.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match=r"data.jsonl:2: not valid JSON"):
        schema.load(write(CONFIG.replace("program.py:examples", "data.jsonl")))
    (tmp_path / "data.jsonl").write_text("\n")
    with pytest.raises(DataError, match="has no examples"):
        schema.load(write(CONFIG.replace("program.py:examples", "data.jsonl")))


def test_the_json_schema_knows_every_optimizer_and_its_options():
    whole = schema.schema()
    kinds = [part["properties"]["kind"]["const"] for part in whole["properties"]["optimizer"]["anyOf"][1:]]
    assert {"opro", "optoprime", "random"} <= set(kinds)
    assert schema.keys() == set(whole["properties"])


def test_a_price_is_the_models(write):
    text = CONFIG.replace("{kind: random, candidates: 4}", "opro")
    named = "llm: http://127.0.0.1:9/v1#gpt\n"
    assert schema.load(write(text + named)).arguments()["llm"] == "http://127.0.0.1:9/v1#gpt"
    priced = schema.load(write(text + named + "price: [0.5, 2.0]\n")).arguments()["llm"]
    assert priced.price == (0.5, 2.0) and priced.tells_cost
    with pytest.raises(ConfigError, match=r"run.yaml:\d+.*price"):
        schema.load(write(text + named + "price: 2.0\n"))
