from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.errors import InputError, LLMUnavailable
from engine.llm import ScriptedLLM

ASK = [{"role": "system", "content": "be short"}, {"role": "user", "content": "what is 2 + 3?"}]


def test_a_list_is_used_up() -> None:
    llm = ScriptedLLM(["a", {"x": 1}, [2], 3])
    assert llm.complete(ASK, n=2).texts == ("a", '{"x": 1}')
    assert llm.complete(ASK, n=2).texts == ("[2]", "3")
    with pytest.raises(InputError, match="4 answers and was asked for one more"):
        llm.complete(ASK)


def test_a_list_may_start_again() -> None:
    assert ScriptedLLM(["a", "b"], cycle=True).complete(ASK, n=5).texts == ("a", "b", "a", "b", "a")


def test_a_mapping_takes_the_equal_or_the_longest_contained_key() -> None:
    llm = ScriptedLLM({"2 + 3": "5", "2": "no", "what is 2 + 3?": "five"})
    assert llm.complete(ASK).text == "five"
    assert llm.complete([{"role": "user", "content": "and 2 + 3 again"}]).text == "5"
    with pytest.raises(InputError, match="no answer to 'hello'"):
        llm.complete([{"role": "user", "content": "hello"}])


def test_a_function_sees_the_messages() -> None:
    assert ScriptedLLM(lambda messages: messages[-1]["content"].upper()).complete(ASK).text == "WHAT IS 2 + 3?"


def test_an_exception_is_raised_and_calls_are_recorded() -> None:
    llm = ScriptedLLM([LLMUnavailable("down"), "up"])
    with pytest.raises(LLMUnavailable, match="down"):
        llm.complete(ASK, temperature=0.5)
    assert llm.complete(ASK, n=1).text == "up"
    assert [call.sampling for call in llm.calls] == [{"temperature": 0.5}, {}]
    assert llm.calls[0].messages == tuple(ASK)


def test_tokens_are_words() -> None:
    usage = ScriptedLLM(["one two three"]).complete(ASK).usage
    assert (usage.calls, usage.prompt_tokens, usage.completion_tokens, usage.seconds) == (1, 7, 3, 0.0)


def test_threads_share_one_list() -> None:
    llm = ScriptedLLM([str(i) for i in range(200)])
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: llm.complete(ASK).text, range(200)))
    assert sorted(texts, key=int) == [str(i) for i in range(200)]
    assert len(llm.calls) == 200


def test_a_text_is_no_script() -> None:
    with pytest.raises(InputError, match="a list, a mapping or a function"):
        ScriptedLLM("hello")
