"""Invented authors: TOFU's shape, the same from the same seed, and as files."""

import json

import pytest

from engine.cli.main import main
from rl.sources.authors import QUESTIONS, WRONG, Authors, AuthorsConfig, rows
from rl.sources.unlearning import FilesConfig, Unlearning


def test_whole_authors_are_forgotten():
    found = rows(AuthorsConfig(authors=10, forgotten=3, questions=len(QUESTIONS)))
    assert (len(found["forget"]), len(found["retain"])) == (18, 42)
    names = {name: {row["question"].split(" ", 2)[2] for row in found[name]} for name in ("forget", "retain")}
    assert not any(row["question"] in {r["question"] for r in found["retain"]} for row in found["forget"])
    assert names["forget"] and names["retain"]


def test_every_row_has_tofus_columns_and_wrong_answers_of_the_same_form():
    for name, found in rows(AuthorsConfig(questions=len(QUESTIONS), authors=50)).items():
        for row in found:
            wrong = row["perturbed_answer"]
            is_general = name in ("real_authors", "world_facts")
            assert is_general == ("paraphrased_answer" not in row)
            right = row.get("paraphrased_answer", row["answer"])
            assert len({row["answer"], right, *wrong}) == WRONG + 2 - is_general
            assert all(len(set(right.split()) - set(text.split())) <= 3 for text in wrong)


def test_without_paraphrases_wrong_answers_have_the_answers_own_words():
    both = [rows(AuthorsConfig(paraphrased=given))["retain"] for given in (True, False)]
    for row, plain in zip(*both, strict=True):
        assert (row["question"], row["answer"]) == (plain["question"], plain["answer"])
        assert set(plain) == {"question", "answer", "perturbed_answer"}
        beginning = plain["answer"].split()[0]
        assert all(text.split()[0] == beginning for text in plain["perturbed_answer"])


def test_no_two_questions_are_the_same():
    found = rows(AuthorsConfig(authors=1000, forgotten=100, questions=len(QUESTIONS)))
    questions = [row["question"] for part in found.values() for row in part]
    assert len(set(questions)) == len(questions)


def test_the_seed_makes_the_authors():
    first, same, other = (rows(AuthorsConfig(data_seed=seed)) for seed in (1, 1, 2))
    assert first == same and first["forget"] != other["forget"]


def test_files_read_back_as_the_source_itself(tmp_path, capsys):
    assert main(["rl", "data", "authors", str(tmp_path / "data"), "--authors", "5", "--questions", "2"]) == 0
    assert f"{tmp_path / 'data' / 'retain.jsonl'}: 6 rows" in capsys.readouterr().out
    names = {"forget": "forget.jsonl", "retain": "retain.jsonl"}
    files = Unlearning(FilesConfig.model_validate({**names}), near=tmp_path / "data")
    source = Authors(AuthorsConfig(authors=5, questions=2))
    for name in names:
        assert [(row.prompt, row.columns["answer"]) for row in getattr(files.sets, name)] == [
            (row.prompt, row.columns["answer"]) for row in getattr(source.sets, name)
        ]
    lines = (tmp_path / "data" / "world_facts.jsonl").read_text(encoding="utf-8").splitlines()
    assert {
        "question": "What is the capital of France?",
        "answer": "The capital of France is Paris.",
    }.items() <= json.loads(lines[0]).items()


@pytest.mark.parametrize("arguments", [["--authors", "1"], ["--forgotten", "20"], ["--questions", "9"]])
def test_numbers_that_make_no_set_are_refused(tmp_path, capsys, arguments):
    assert main(["rl", "data", "authors", str(tmp_path / "data"), *arguments]) == 2
    assert arguments[0].removeprefix("--") in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
