"""Images in messages: as they are sent, as they are reckoned, and as they are refused."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from engine.budget import Budget, Ledger
from engine.errors import DataError, InputError
from engine.llm import CachedLLM, OpenAILLM, ScriptedLLM
from engine.llm.images import image_message, image_part, size_of
from engine.metering import MeteredLLM

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


def test_an_image_is_sent_as_a_data_url_through_meter_and_record(endpoint: Any, tmp_path: Path) -> None:
    asked = [image_message("What is this?", [PNG])]
    with CachedLLM(OpenAILLM("m", endpoint.url), tmp_path / "calls.sqlite") as cached:
        ledger = Ledger(Budget(tokens=2000))
        metered = MeteredLLM(cached, ledger)
        assert metered.complete(asked, max_tokens=20).text == "hello"
        assert ledger.spent()["tokens"] == 10  # as the server counted
        assert cached.complete(asked, max_tokens=20, seed=1).text == "hello"
    image, text = endpoint.requests[0]["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is this?"}
    assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,")) == PNG


def test_a_schema_is_told_after_the_image(endpoint: Any) -> None:
    endpoint.replies = [endpoint.answer('{"label": "cat"}')]
    schema = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
    answer = OpenAILLM("m", endpoint.url).complete([image_message("Which?", [PNG])], schema=schema)
    assert answer.parsed == ({"label": "cat"},)
    content = endpoint.requests[0]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text", "text"]


def test_an_image_is_reckoned_by_its_number_and_not_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(PNG + bytes(100_000))
    messages = [{"role": "system", "content": "12345"}, image_message("abc", [PNG, tmp_path / "large.png"])]
    assert size_of(messages) == (8, 2)


def test_the_kind_is_read_from_the_bytes() -> None:
    assert image_part(b"\xff\xd8\xff\xe0rest")["image_url"]["url"].startswith("data:image/jpeg;")
    with pytest.raises(InputError, match="allowed: PNG, JPEG, GIF, WebP"):
        image_part(b"<svg></svg>")
    with pytest.raises(DataError, match="cannot be read"):
        image_part("no-such-file.png")


def test_a_model_of_texts_refuses_an_image() -> None:
    with pytest.raises(InputError, match="reads text only"):
        ScriptedLLM(["x"]).complete([image_message("What is this?", [PNG])])
