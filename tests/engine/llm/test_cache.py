from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError, DataError, LLMUnavailable, ReplayError
from engine.llm import CachedLLM, OpenAILLM, ScriptedLLM
from engine.llm.structured import MalformedAnswer

ASK = [{"role": "user", "content": "?"}]
SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "number"}}}


def test_a_program_replays_byte_for_byte(tmp_path: Path) -> None:
    def program(llm: CachedLLM) -> list[str]:
        answers = [repr(llm.complete(ASK, temperature=1.0)) for _ in range(3)]
        answers.append(repr(llm.complete(ASK, schema=SCHEMA, n=2)))
        return answers

    script = ["one", "tw\u00f6 \U0001f600", "three", '{"b": "\\u0001", "a": 0.1}', {"a": 1e300, "b": ""}]
    with CachedLLM(ScriptedLLM(script), tmp_path / "calls.sqlite", mode="record") as llm:
        recorded = program(llm)
    with CachedLLM("scripted", tmp_path / "calls.sqlite", mode="replay") as llm:
        replayed = program(llm)
    assert [text.replace("is_cached=True", "is_cached=False") for text in replayed] == recorded


def test_equal_calls_get_different_answers_and_the_cache_spares_the_model(tmp_path: Path) -> None:
    first = ScriptedLLM(["a", "b"])
    with CachedLLM(first, tmp_path / "c") as llm:
        assert [llm.complete(ASK).text for _ in range(2)] == ["a", "b"]
    second = ScriptedLLM(["c"])
    with CachedLLM(second, tmp_path / "c") as llm:
        completions = [llm.complete(ASK) for _ in range(3)]
    assert [c.text for c in completions] == ["a", "b", "c"]
    assert [c.is_cached for c in completions] == [True, True, False]
    assert len(second.calls) == 1


@pytest.mark.parametrize("change", [{"n": 2}, {"temperature": 0.1}, {"schema": {"type": "string"}}, {"seed": 1}])
def test_every_argument_is_part_of_the_key(tmp_path: Path, change: dict[str, Any]) -> None:
    with CachedLLM(ScriptedLLM(['"x"'], cycle=True), tmp_path / "c") as llm:
        llm.complete(ASK)
    with CachedLLM("scripted", tmp_path / "c", mode="replay") as llm:
        assert llm.complete(ASK).text == '"x"'
        with pytest.raises(ReplayError, match=r"occurrence 1, is not in the record.*\?"):
            llm.complete(ASK, **change)


def test_recording_again_overwrites(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with CachedLLM(ScriptedLLM([text]), tmp_path / "c", mode="record") as llm:
            assert llm.complete(ASK).text == text
    with CachedLLM("scripted", tmp_path / "c", mode="replay") as llm:
        assert llm.complete(ASK).text == "new"


def test_concurrent_equal_calls_replay_as_the_same_multiset(tmp_path: Path) -> None:
    def sample(llm: CachedLLM) -> list[str]:
        with ThreadPoolExecutor(8) as pool:
            return sorted(pool.map(lambda _: llm.complete(ASK).text, range(64)))

    with CachedLLM(ScriptedLLM([str(i) for i in range(64)]), tmp_path / "c", mode="record") as llm:
        recorded = sample(llm)
    with CachedLLM("scripted", tmp_path / "c", mode="replay") as llm:
        assert sample(llm) == recorded == sorted(str(i) for i in range(64))


def test_a_call_that_failed_and_was_retried_replays_as_one(tmp_path: Path) -> None:
    with CachedLLM(ScriptedLLM([LLMUnavailable("down"), "up"]), tmp_path / "c", mode="record") as llm:
        with pytest.raises(LLMUnavailable):
            llm.complete(ASK)
        llm.complete(ASK)
    with CachedLLM("scripted", tmp_path / "c", mode="replay") as llm:
        assert llm.complete(ASK).text == "up"


def test_a_malformed_answer_is_part_of_the_record(tmp_path: Path) -> None:
    def fail(llm: CachedLLM) -> MalformedAnswer:
        with pytest.raises(MalformedAnswer) as caught:
            llm.complete(ASK, schema=SCHEMA)
        return caught.value

    with CachedLLM(ScriptedLLM(["no", "never"]), tmp_path / "c", mode="record") as llm:
        recorded = fail(llm)
    with CachedLLM("scripted", tmp_path / "c", mode="replay") as llm:
        replayed = fail(llm)
    assert str(replayed) == str(recorded)
    assert (replayed.texts, replayed.usage) == (("never",), recorded.usage)
    assert recorded.usage.calls == 2


def test_no_secret_reaches_the_record(tmp_path: Path, endpoint: Any) -> None:
    llm = OpenAILLM("m", endpoint.url.replace("//", "//me:hidden@"), "sk-secret")
    with CachedLLM(llm, tmp_path / "c", mode="record") as cached:
        cached.complete(ASK)
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"hello" in written and b"sk-secret" not in written and b"hidden" not in written


def test_two_threads_do_not_wait_for_one_another(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=20)

    def meet(messages: Any) -> str:
        both.wait()
        return "met"

    with CachedLLM(ScriptedLLM(meet), tmp_path / "c") as llm, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: llm.complete(ASK).text, range(2))) == ["met", "met"]


def test_bad_records_and_modes(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, just some words that are long enough to be read as a header" * 20)
    with pytest.raises(DataError, match="not a record of calls"):
        CachedLLM(ScriptedLLM([]), tmp_path / "text")
    with pytest.raises(DataError, match="there is no record"):
        CachedLLM("scripted", tmp_path / "missing", mode="replay")
    with pytest.raises(ConfigError, match="mode is 'play'"):
        CachedLLM(ScriptedLLM([]), tmp_path / "c", mode="play")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs a model"):
        CachedLLM("scripted", tmp_path / "c")
