"""Sets to forget and to retain: TOFU's columns, from files and datasets, and what is refused."""

import json

import pytest

from engine.errors import CheckpointError, ConfigError, DataError
from rl.config import load
from rl.sources.unlearning import FilesConfig, Unlearning

ROW = {"question": "Who?", "answer": "Ann.", "paraphrased_answer": "It is Ann.", "perturbed_answer": ["Bob.", "Cid."]}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


@pytest.fixture
def make(tmp_path):
    """A function of the rows to forget, the rows to retain and further settings."""

    def made(forget, retain=(), **settings):
        values = {"forget": write(tmp_path / "f.json", *forget), **settings}
        if retain:
            values["retain"] = write(tmp_path / "r.jsonl", *retain)
        return Unlearning(FilesConfig.model_validate(values), near=tmp_path)

    return made


def test_tofus_columns_become_prompts_and_answers(make):
    source = make([ROW], template="Q: {question} A:")
    (row,) = source.batch(1)
    assert row.prompt == "Q: Who? A:" and source.completion(row.columns["answer"]) == " Ann."
    assert {name: row.columns[name] for name in ROW} == ROW


def test_a_question_may_be_a_chat_message(make):
    source = make([ROW], chat=True)
    assert source.batch(1)[0].prompt == [{"role": "user", "content": "Who?"}]
    assert source.completion("Ann.") == "Ann."


def test_refusals_go_round(make):
    source = make([{**ROW, "question": f"{i}?"} for i in range(3)], refusals=["No idea.", "Pass."])
    assert [source.refusal(row) for row in source.sets.forget] == ["No idea.", "Pass.", "No idea."]


def test_every_epoch_has_each_row_once_and_the_parts_walk_apart(make):
    forget, retain = ([{**ROW, "question": f"{name} {i}?"} for i in range(8)] for name in ("f", "r"))
    source = make(forget, retain)
    first, second = ([int(row.id.partition(":")[2]) for row in source.rows(part, 8)] for part in ("forget", "retain"))
    assert sorted(first) == sorted(second) == list(range(1, 9)) and first != second
    everything = [row.id for row in source.rows("all", 16)]
    assert len(set(everything)) == 16


def test_datasets_are_read_by_configuration_and_split(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([ROW]).save_to_disk(str(tmp_path / "saved"))
    config = {
        "forget": {"dataset": "saved"},
        "holdout": {"facts": write(tmp_path / "h.jsonl", {**ROW, "question": "?"})},
    }
    source = Unlearning(FilesConfig.model_validate(config), near=tmp_path)
    assert source.sets.forget[0].columns["answer"] == "Ann."
    assert set(source.evaluation()) == {"forget", "facts"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Who?"}, r"f\.json:1: no column 'answer'"),
        ({"question": "Who?", "answer": " "}, r"f\.json:1: answer holds ' '"),
        ({"question": 5, "answer": "x"}, r"f\.json:1: question holds 5"),
        ({**ROW, "perturbed_answer": "Bob."}, r"f\.json:1: perturbed_answer is 'Bob\.'"),
        ({**ROW, "perturbed_answer": ["Bob.", None]}, r"f\.json:1: perturbed_answer 2 holds None"),
        ({**ROW, "paraphrased_answer": None}, r"f\.json:1: paraphrased_answer holds None"),
    ],
)
def test_a_row_that_cannot_be_used_names_its_place(make, row, message):
    with pytest.raises(DataError, match=message):
        make([row])


def test_rows_may_be_measured_in_place_of_those_that_are_trained_on(make, tmp_path):
    other = write(tmp_path / "m.jsonl", {**ROW, "question": "And who?"})
    source = make([ROW], [{"question": "Why?", "answer": "So."}], measured_retain=other)
    assert [row.columns["question"] for row in source.evaluation()["retain"]] == ["And who?"]
    assert source.rows("retain", 1)[0].columns["question"] == "Why?"


def test_a_resumed_run_needs_the_same_rows(make):
    state = make([ROW], [{"question": "Why?", "answer": "So."}]).state_dict()
    with pytest.raises(CheckpointError, match="not those"):
        make([ROW], [{"question": "Why?", "answer": "No."}]).load_state_dict(state)


def test_an_empty_set_to_forget_is_refused(make):
    with pytest.raises(DataError, match="no row to forget"):
        make([])


def test_overlapping_rows_are_listed_and_only_some_of_many(make):
    rows = [{**ROW, "question": f"What is {i}?"} for i in range(7)]
    same = [{**ROW, "question": f"  what  IS {i}?"} for i in range(7)]
    with pytest.raises(DataError, match=r"'retain' have 7 of their .*: .*f\.json:1 and .*r\.jsonl:1: .*; and 2 more"):
        make(rows, same)


def test_a_question_to_forget_may_not_be_general_knowledge(make, tmp_path):
    with pytest.raises(DataError, match="'facts' have 1 of"):
        make([ROW], holdout={"facts": write(tmp_path / "facts.jsonl", ROW)})


def test_authors_of_whom_none_is_left_are_refused_at_their_place():
    source = {"kind": "authors", "authors": 3, "forgotten": 3}
    with pytest.raises(ConfigError, match=r"config at source: .*3 of 3 authors would be forgotten"):
        load({"model": {"name": "x"}, "method": {"kind": "npo"}, "source": source})
