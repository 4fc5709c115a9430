from __future__ import annotations

import base64
import sqlite3
import struct
import zlib

import pytest

from engine import Budget, Feedback, Media, optimize, trace
from engine.errors import InputError
from engine.llm import CachedLLM, ScriptedLLM
from engine.llm.response import prompt_tokens
from engine.media import content, media_in


def png(grey, side=64):
    """A grey picture, as the PNG specification has it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((grey + 7 * i * k) % 256 for k in range(side)) for i in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(rows, 0)
    return Media(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def test_pictures_and_sounds_are_parts_as_the_api_has_them():
    picture, sound = png(0), Media(b"RIFF\0\0\0\0WAVEfmt ")
    text, image, audio = content("What is this?", picture, sound)
    assert text == {"type": "text", "text": "What is this?"}
    kind, data = image["image_url"]["url"].split(";base64,")
    assert (image["type"], kind, base64.b64decode(data)) == ("image_url", "data:image/png", picture.data)
    assert audio["type"] == "input_audio" and audio["input_audio"]["format"] == "wav"
    with pytest.raises(InputError, match="allowed: audio/wav, audio/mpeg"):
        content(Media(b"OggS" + b"\0" * 20))


def test_media_are_found_in_examples():
    one, two = png(1), png(2)
    assert list(media_in({"q": "x", "pictures": [one, ("y", two)]})) == [one, two]
    assert list(media_in("text")) == list(media_in(b"\x89PNG")) == list(media_in(3)) == []


def test_a_picture_costs_what_pictures_cost_and_not_its_characters():
    picture = {"role": "user", "content": content("a" * 30, png(0))}
    assert len(picture["content"][1]["image_url"]["url"]) > 5000
    assert prompt_tokens(picture) == 10 + 1500 and prompt_tokens({"role": "user", "content": "a" * 30}) == 10


def test_the_record_of_calls_holds_a_digest_of_a_picture_and_tells_pictures_apart(tmp_path):
    path = tmp_path / "llm.sqlite"
    white, black = ([{"role": "user", "content": content("colour?", png(grey))}] for grey in (255, 0))
    with CachedLLM(ScriptedLLM(["white", "black"]), path) as llm:
        assert [llm.complete(asked).text for asked in (white, black)] == ["white", "black"]
    with CachedLLM("scripted", path, mode="replay") as llm:
        assert [llm.complete(asked).text for asked in (black, white)] == ["black", "white"]
    requests = [row[0] for row in sqlite3.connect(path).execute("SELECT request FROM calls")]
    assert all(len(request) < 500 and "sha256," in request and "colour?" in request for request in requests)


@pytest.mark.parametrize("images, shown", [(0, 0), (1, 1), (8, 2)])
def test_optoprime_shows_the_pictures_of_the_runs(images, shown, tmp_path):
    prompt = trace.param("What is it?", name="prompt", description="the question about a picture")

    @trace.node
    def look(prompt: str, picture: Media) -> str:
        return f"{prompt} {picture.sha256[:4]}"

    pictures = [png(10), png(20)]
    llm = ScriptedLLM([{"reasoning": "", "suggestion": {"prompt": "Which grey is it?"}}])
    result = optimize(
        lambda example: look(prompt, example["picture"]),
        [{"picture": picture, "label": "grey"} for picture in pictures],
        feedback=lambda _, out: Feedback(len(out), "say more"),
        optimizer={"kind": "optoprime", "images": images},
        llm=llm,
        budget=Budget(evaluations=1),
        run_dir=tmp_path / "run",
    )
    assert result.best == {"prompt": "Which grey is it?"}
    said = llm.calls[0].messages[1]["content"]
    if not images:
        assert isinstance(said, str) and pictures[0].sha256 in said and "base64" not in said
        return
    assert sum(part["type"] == "image_url" for part in said) == shown
    assert all(p["text"][-65:-1] in said[0]["text"] for p in said[1:] if p["type"] == "text")  # names it by its digest
