"""The pages fit, can be read by everybody, and load what they should."""

from __future__ import annotations

import io
import math
import re
import wave
from pathlib import Path
from typing import Any

import pytest

from engine.media import Media
from engine.ranking.content import Code, Text
from tests.engine.ranking.web.conftest import DESKTOP, PHONE, Visits, by_letter

pytestmark = pytest.mark.browser

LONG = "A long one, with **bold** words.\n\n" + "It goes on and on, as models do. " * 90
WIDE = "x = " + "+".join(f"a_rather_long_name_{number}" for number in range(30))
RTL = "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u202eabc"
TABLE = "| stage | where |\n|---|---|\n| light | thylakoid |\n\n- one\n- two\n\n> quoted\n\n# A heading\n\n`code`"
SIZES = (DESKTOP["viewport"], PHONE["viewport"])


def violations(page: Any) -> list[str]:
    """What axe-core has against the page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]} {node['failureSummary'][:160]}" for one in found for node in one["nodes"]
    ]


def sideways(page: Any) -> int:
    """By how many pixels the page is too wide."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def small(page: Any) -> list[str]:
    """Buttons and selects that are too small for a finger."""
    return list(
        page.evaluate("""() => [...document.querySelectorAll("button, select, summary, a.main")]
            .filter((one) => one.checkVisibility())
            .filter((one) => { const box = one.getBoundingClientRect(); return box.width < 43.9 || box.height < 43.9; })
            .map((one) => one.outerHTML.slice(0, 90))""")
    )


def checked(page: Any) -> None:
    """As it stands, the page is for everybody: wide and narrow, light and dark."""
    for size in SIZES:
        page.set_viewport_size(size)
        assert sideways(page) == 0
        assert small(page) == []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == [], f"{scheme} at {size['width']}"


def sound() -> bytes:
    """A second of a tone."""
    made = io.BytesIO()
    with wave.open(made, "wb") as out:
        out.setparams((1, 1, 8000, 0, "NONE", ""))
        out.writeframes(bytes(128 + int(60 * math.sin(step / 3)) for step in range(8000)))
    return made.getvalue()


def picture(shade: int) -> bytes:
    """A PNG of 64 x 48 in one grey."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\x00" + bytes([shade]) * 64) * 48
    head = struct.pack(">IIBBBBB", 64, 48, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_ranking_is_for_everybody(visit: Visits, ask) -> None:
    ask(LONG, Code(WIDE, "python"), Text(RTL), TABLE, prompt=f"{LONG}\n\n{WIDE.replace('+', '')}")
    page = visit()
    checked(page)
    for letter in "BAD":
        page.locator(f"#card-{letter} [data-do=next]").click()
    page.locator("#card-A [data-do=tie]").click()
    page.get_by_text("Skip this one").click()
    checked(page)
    page.keyboard.press("?")
    checked(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Differences").click()
    page.wait_for_selector("#diff[open]")
    checked(page)


def test_the_other_pages_are_for_everybody(visit: Visits, ask, site) -> None:
    page = visit()
    checked(page)  # idle
    best = ask(LONG, Code(WIDE), Text(RTL), mode="best")
    page.wait_for_selector("#answer")
    page.get_by_role("button", name="B is the best").click()
    checked(page)
    site.store.withdraw(best)
    ask(LONG, TABLE, mode="pair")
    page.goto(site.url)
    page.get_by_role("button", name="Equal").click()
    checked(page)
    visit.expect("401")
    page.context.clear_cookies()
    page.goto(site.url)
    assert page.locator("h1").inner_text() == "Open the link you were given"
    checked(page)


def test_without_scripts_it_is_for_everybody(visit: Visits, ask) -> None:
    ask(LONG, Code(WIDE), Text(RTL), TABLE)
    page = visit(**PHONE, java_script_enabled=False)
    assert sideways(page) == 0
    assert small(page) == []


def test_the_focus_is_not_under_the_bars(visit: Visits, ask) -> None:
    ask(LONG, LONG + "more", mode="pair")
    page = visit()
    page.get_by_role("button", name="Equal").focus()
    assert page.evaluate("scrollY") == 0
    page.locator("#card-B .more").focus()
    covered = page.locator("#card-B .more").bounding_box()
    assert covered["y"] + covered["height"] <= page.locator(".send").bounding_box()["y"]


def test_the_colours_are_as_chosen(visit: Visits, ask) -> None:
    ask("alpha", "beta")
    page = visit(color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == dark
    page.get_by_role("button", name="Light or dark").click()
    assert page.evaluate(background) == light


def test_a_long_text_is_cut_until_it_is_asked_for(visit: Visits, ask) -> None:
    ask(LONG, "short")
    page = visit()
    card = page.locator(".card", has_text="A long one")
    before = card.bounding_box()["height"]
    card.get_by_role("button", name="Show all").click()
    assert card.bounding_box()["height"] > before + 200
    card.get_by_role("button", name="Show less").click()
    assert card.bounding_box()["height"] == before
    assert page.locator(".card", has_text="short").get_by_role("button", name="Show all").count() == 0


def test_a_text_that_turns_the_direction_does_not_turn_the_page(visit: Visits, ask) -> None:
    ask(Text(RTL), "plain")
    page = visit()
    content = page.locator(".card .content", has_text="abc")
    assert content.evaluate("(node) => getComputedStyle(node).direction") == "rtl"
    assert "U+202E" in content.locator(".control").inner_text()
    assert page.locator("body").evaluate("(node) => getComputedStyle(node).direction") == "ltr"


def test_pictures(visit: Visits, ask, site) -> None:
    question = ask(*[Media(picture(shade), alt=f'grey "{shade}"') for shade in (10, 120, 240)], mode="best")
    page = visit()
    page.wait_for_selector(".card img")
    page.wait_for_load_state()
    assert page.evaluate("[...document.images].map((one) => one.naturalWidth)") == [64, 64, 64]
    assert sorted(page.evaluate("[...document.images].map((one) => one.alt)"))[0] == 'grey "10"'
    checked(page)
    page.get_by_role("button", name="B is the best").click()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_selector("text=Nothing to rank just now")
    assert by_letter(site.vote(question)) == "B|AC"


def test_sounds(visit: Visits, ask, site) -> None:
    question = ask(Media(sound(), alt="a tone"), "words in place of it")
    page = visit()
    audio = page.locator("audio")
    assert (
        audio.evaluate("""(node) => new Promise((done) => {
        if (node.readyState >= 1) done(node.duration); node.onloadedmetadata = () => done(node.duration); })""")
        == 1.0
    )
    part = """(node) => fetch(node.src, { headers: { Range: "bytes=0-3" } }).then(async (answer) =>
        [answer.status, answer.headers.get("Content-Range"), await answer.text()])"""
    assert audio.evaluate(part) == [206, f"bytes 0-3/{len(sound())}", "RIFF"]
    checked(page)
    audio.focus()
    page.keyboard.press("ArrowRight")  # the player's
    for letter in "BA":
        page.locator(f"#card-{letter} [data-do=next]").click()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_selector("text=Nothing to rank just now")
    assert by_letter(site.vote(question)) == "B>A"


def test_the_vendored_library_is_the_one_that_its_readme_names() -> None:
    import hashlib

    folder = Path(__file__).parents[4] / "engine" / "ranking" / "web" / "static" / "vendor"
    [wanted] = re.findall(r"([0-9a-f]{64})  Sortable\.min\.js", (folder / "README").read_text())
    assert hashlib.sha256((folder / "Sortable.min.js").read_bytes()).hexdigest() == wanted
