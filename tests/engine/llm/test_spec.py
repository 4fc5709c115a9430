from __future__ import annotations

import subprocess
import sys

import pytest

from engine.errors import ConfigError, EnvironmentMissing, LLMUnavailable
from engine.llm import LLM, ScriptedLLM, resolve, spec


def test_nothing_heavy_is_imported() -> None:
    code = "import engine.llm, sys; print([m for m in ('openai', 'torch', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("http://localhost:8000/v1#Qwen/Qwen3-4B", "openai:Qwen/Qwen3-4B@http://localhost:8000/v1"),
        ("https://me:pw@host/v1#m", "openai:m@https://host/v1"),
        ("local:smollm2-135m", "local:smollm2-135m"),
    ],
)
def test_forms(text: str, name: str) -> None:
    llm = resolve(text)
    assert isinstance(llm, LLM) and llm.name == name


def test_openai_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LLMUnavailable, match="OPENAI_API_KEY"):
        resolve("openai:gpt-x")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert resolve("openai:gpt-x").name == "openai:gpt-x@https://api.openai.com/v1"


def test_a_model_is_itself() -> None:
    llm = ScriptedLLM([])
    assert resolve(llm) is llm


@pytest.mark.parametrize("text", ["", "gpt-4", "openai:", "http://localhost:8000/v1", "ftp://x#m", "local:", 3])
def test_other_forms_are_refused(text: object) -> None:
    with pytest.raises(ConfigError, match="openai:MODEL"):
        resolve(text)  # type: ignore[arg-type]


def test_an_address_without_a_model_hides_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("http://me:secret@host/v1")
    assert "secret" not in str(caught.value)


def test_none_is_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    with pytest.raises(ConfigError, match="OPENAI_MODEL is not"):
        resolve()
    monkeypatch.setenv("OPENAI_MODEL", "m")
    assert resolve().name == "openai:m@http://localhost:8000/v1"


def test_none_without_an_environment_is_the_embedded_model_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    spec._say_weak.cache_clear()
    assert resolve().name == resolve(None).name == "local:smollm2-135m"
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("weak proposer") == 1


def test_a_client_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(spec.CLIENTS, "LocalLLM", "no_such_package.local")
    with pytest.raises(EnvironmentMissing, match="'no_such_package'") as caught:
        resolve("local:smollm2-135m")
    assert "[rl]" in str(caught.value)
