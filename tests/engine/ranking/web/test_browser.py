"""Ranking in the browser: every way to do it ends in the store as what was meant."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.engine.ranking.web.conftest import PHONE, by_letter, seen, told

pytestmark = pytest.mark.browser

FOUR = ("alpha", "beta", "gamma", "delta")


def card(page: Any, letter: str) -> Any:
    return page.locator(f"#card-{letter}")


def press(page: Any, letter: str, action: str) -> None:
    card(page, letter).locator(f"[data-do={action}]").click()


def keys(page: Any, *names: str) -> None:
    for name in names:
        page.keyboard.press(name)


def order(page: Any) -> str:
    """What the bar at the bottom says: B>A=C."""
    return str(page.locator("#order").inner_text().replace("\n", "").replace("\u203a", ">"))


def submit(page: Any) -> None:
    page.get_by_role("button", name="Submit").click()
    page.wait_for_selector("text=Nothing to rank just now")


def saved(page: Any) -> None:
    page.wait_for_selector("#saved:text-is('Draft saved')")


def middle(box: dict[str, float], down: float = 0.5) -> tuple[float, float]:
    return box["x"] + box["width"] / 2, box["y"] + box["height"] * down


def drag(page: Any, letter: str, to: tuple[float, float]) -> None:
    """Moves a card by its handle as a hand does: in steps, with a rest at the end."""
    x, y = middle(card(page, letter).locator(".handle").bounding_box())
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(x + (to[0] - x) * step / 8, y + (to[1] - y) * step / 8)
        page.wait_for_timeout(20)
    page.wait_for_timeout(120)
    page.mouse.up()


def touch(page: Any, x: float, y: float, to: tuple[float, float]) -> None:
    """The same with a finger."""
    session = page.context.new_cdp_session(page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": a, "y": b} for a, b in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
        page.wait_for_timeout(25)

    send("touchStart", (x, y))
    for step in range(1, 11):
        send("touchMove", (x + (to[0] - x) * step / 10, y + (to[1] - y) * step / 10))
    page.wait_for_timeout(120)
    send("touchEnd")


def test_a_link_signs_in(visit, ask, site) -> None:
    visit.expect("401")
    page = visit()
    page.context.clear_cookies()
    page.goto(site.url)
    assert page.locator("h1").inner_text() == "Open the link you were given"
    question = ask("alpha", "beta")
    page.goto(site.link("Maria"))
    page.wait_for_selector("#answer")
    for letter in "BA":
        press(page, letter, "next")
    submit(page)
    assert site.vote(question).annotator == "Maria"


def test_an_untouched_order_is_no_answer(visit, ask, site) -> None:
    question = ask(*FOUR)
    page = visit()
    assert page.locator("#ranking .card").count() == 0
    assert page.get_by_role("button", name="Submit").is_disabled()
    assert page.locator("#reason").inner_text() == "Place 4 more to submit"
    keys(page, "Control+Enter")
    assert site.store.votes(question) == []


def test_buttons_rank_and_tie(visit, ask, site) -> None:
    question = ask(*FOUR)
    page = visit()
    for letter in "CADB":
        press(page, letter, "next")
    press(page, "B", "up")  # C A B D
    press(page, "C", "down")  # A C B D
    press(page, "B", "tie")  # A C=B D
    assert order(page) == "A>C=B>D"
    press(page, "B", "tie")
    assert order(page) == "A>C>B>D"
    press(page, "B", "tie")
    press(page, "A", "remove")
    assert page.locator("#reason").inner_text() == "Place 1 more to submit"
    press(page, "A", "next")
    submit(page)
    vote = site.vote(question)
    assert by_letter(vote) == "BC>D>A"
    assert not vote.is_late


def test_keys_rank(visit, ask, site) -> None:
    question = ask(*FOUR)
    page = visit()
    keys(page, "b", "1", "a", "1", "d", "Enter")  # A B D
    assert order(page) == "A>B>D"
    keys(page, "c", "2", "ArrowDown")  # A B C D
    assert order(page) == "A>B>C>D"
    keys(page, "=", "ArrowRight", "ArrowUp")  # C is tied with B, the focus on D, which goes above them
    assert order(page) == "A>D>B=C"
    keys(page, "ArrowLeft", "Delete")  # A goes
    assert order(page) == "D>B=C"
    assert page.locator("#live").inner_text() == "A: not ranked. Place 1 more to submit."
    keys(page, "a", "9")  # there is no ninth place
    assert order(page) == "D>B=C"
    keys(page, "4")
    keys(page, "Control+Enter")
    page.wait_for_selector("text=Nothing to rank just now")
    assert by_letter(site.vote(question)) == "D>BC>A"


def test_keys_are_text_in_a_note_and_can_be_turned_off(visit, ask, site) -> None:
    question = ask(*FOUR)
    page = visit()
    page.locator("textarea").click()
    page.keyboard.type("a1 b2 = ?")
    assert order(page) == ""
    assert page.locator("textarea").input_value() == "a1 b2 = ?"
    page.locator("h1").click()
    keys(page, "?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    page.get_by_label("Use single keys").uncheck()
    keys(page, "Escape", "a", "1")
    assert order(page) == ""
    page.get_by_label("None of them is good enough").check()
    for letter in "ABCD":
        press(page, letter, "next")
    submit(page)
    vote = site.vote(question)
    assert (vote.ranking.note, vote.ranking.all_bad, by_letter(vote)) == ("a1 b2 = ?", True, "A>B>C>D")


def test_the_focus_goes_on_to_the_next_card(visit, ask, site) -> None:
    question = ask("alpha", "beta", "gamma")
    page = visit()
    card(page, "A").locator("[data-do=next]").focus()
    keys(page, "Enter", "Enter", "Enter")
    assert order(page) == "A>B>C"
    assert page.evaluate("document.activeElement.id") == "card-C"
    submit(page)
    assert by_letter(site.vote(question)) == "A>B>C"


def test_dragging_with_the_mouse(visit, ask, site) -> None:
    question = ask(*FOUR)
    page = visit()
    drag(page, "B", middle(page.locator("#ranking").bounding_box()))
    assert order(page) == "B"
    drag(page, "C", middle(card(page, "B").bounding_box(), 0.1))  # above B
    assert order(page) == "C>B"
    drag(page, "A", middle(card(page, "B").bounding_box(), 0.95))
    assert order(page) == "C>B>A"
    press(page, "B", "tie")
    assert order(page) == "C=B>A"
    drag(page, "D", middle(card(page, "B").bounding_box(), 0.15))  # between the two that are tied
    assert order(page) == "C=D=B>A"
    drag(page, "B", middle(card(page, "A").bounding_box(), 0.95))
    assert order(page) == "C=D>A>B"
    drag(page, "A", middle(page.locator(".finish").bounding_box(), 0.1))  # to where the tray opens
    assert order(page) == "C=D>B"
    press(page, "A", "next")
    submit(page)
    assert by_letter(site.vote(question)) == "CD>B>A"


def test_dragging_with_a_finger(visit, ask, site) -> None:
    question = ask("alpha", "beta")
    page = visit(**PHONE)
    touch(
        page,
        *middle(card(page, "A").locator(".handle").bounding_box()),
        middle(page.locator("#ranking").bounding_box()),
    )
    assert order(page) == "A"
    touch(page, *middle(card(page, "B").locator(".handle").bounding_box()), middle(card(page, "A").bounding_box(), 0.1))
    assert order(page) == "B>A"
    submit(page)
    assert by_letter(site.vote(question)) == "B>A"


def test_a_finger_on_the_text_scrolls(visit, ask, site) -> None:
    question = ask(*[f"{name}\n\n" + "A paragraph of it.\n\n" * 30 for name in FOUR])
    page = visit(**PHONE)
    x, y = middle(page.locator("#text-A").bounding_box(), 0.3)
    touch(page, x, y, (x, y - 250))
    assert page.evaluate("scrollY") > 150
    assert order(page) == ""
    assert site.store.votes(question) == []


def test_a_refresh_brings_the_draft_back(visit, ask, site) -> None:
    question = ask(*FOUR)
    page = visit()
    keys(page, "d", "1", "b", "2", "a", "3", "=")
    page.locator("textarea").fill("two are the same")
    saved(page)
    page.reload()
    assert order(page) == "D>A=B"
    assert page.locator("textarea").input_value() == "two are the same"
    keys(page, "c", "1")
    page.reload()  # at once: the last move goes with the page
    assert order(page) == "C>D>A=B"
    assert site.store.votes(question) == []
    submit(page)
    assert by_letter(site.vote(question)) == "C>D>AB"


def test_a_page_that_is_closed_at_once_keeps_its_draft(visit, ask, site) -> None:
    question = ask("alpha", "beta")
    page = visit()
    press(page, "B", "next")
    page.goto("about:blank")  # within the time in which moves are gathered
    page.wait_for_timeout(300)
    page = page.context.new_page()
    page.goto(site.url)
    assert order(page) == "B"
    press(page, "A", "next")
    submit(page)
    assert by_letter(site.vote(question)) == "B>A"


def test_a_double_click_sends_one_answer(visit, ask, site) -> None:
    first, second = ask("alpha", "beta"), ask("alpha", "beta")
    page = visit()
    for letter in "BA":
        press(page, letter, "next")
    page.get_by_role("button", name="Submit").dblclick()
    page.wait_for_selector("#answered:text-is('1')")
    assert by_letter(site.vote(first)) == "B>A"
    assert site.store.votes(second) == []
    assert order(page) == ""


def test_the_same_form_sent_twice_is_one_answer(visit, ask, site) -> None:
    question = ask("alpha", "beta", votes=2)
    page = visit()
    for letter in "BA":
        press(page, letter, "next")
    saved(page)
    twice = """async () => {
        const body = new URLSearchParams(new FormData(document.getElementById("answer")));
        body.set("action", "submit");
        const send = () => fetch("/answer", { method: "POST", body }).then((answer) => answer.status);
        return Promise.all([send(), send()]);
    }"""
    assert page.evaluate(twice) == [200, 200]
    assert by_letter(site.vote(question)) == "B>A"


def test_two_annotators_see_their_own_order_and_mean_the_same(visit, ask, site) -> None:
    question = ask(*FOUR, "epsilon", "zeta", votes=2)
    wanted = ["gamma", "alpha", "zeta", "delta", "beta", "epsilon"]
    for _ in range(2):
        page = visit()
        for text in wanted:
            page.locator(".card", has_text=text).locator("[data-do=next]").click()
        submit(page)
    one, other = site.store.votes(question)
    assert told(one) == told(other) == [[text] for text in wanted]
    assert one.ranking.tiers == other.ranking.tiers
    assert seen(one) != seen(other)
    assert one.annotator != other.annotator


def test_a_question_that_was_left_goes_to_somebody_else(visit, own_site) -> None:
    site = own_site(lease_s=2.0)
    question = site.ask("alpha", "beta")
    began = time.monotonic()
    slow, quick = visit(site=site), visit(site=site)
    quick.wait_for_selector("#answer")  # by itself, when the time of the first is up
    assert time.monotonic() - began >= site.lease_s
    keys(quick, "a", "1", "b", "2", "Control+Enter")
    quick.wait_for_selector("text=Nothing to rank just now")
    slow.wait_for_selector("#gone:visible")
    keys(slow, "b", "1", "a", "2", "Control+Enter")
    slow.wait_for_selector("text=counts in the statistics alone")
    votes = site.store.votes(question)
    assert [(by_letter(vote), vote.is_late) for vote in votes] == [("A>B", False), ("B>A", True)]


def test_undo_brings_the_question_back_as_it_was(visit, ask, site) -> None:
    first, second = ask(*FOUR), ask("one", "two")
    page = visit()
    keys(page, "d", "1", "c", "2", "b", "3", "=", "a", "4")
    assert order(page) == "D>C=B>A"
    page.locator("textarea").fill("not sure")
    keys(page, "Control+Enter")
    page.wait_for_selector("text=Put all 2 in order")
    assert by_letter(site.vote(first)) == "D>BC>A"
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector("text=Put all 4 in order")
    assert site.store.votes() == [vote for vote in site.store.votes() if vote.question not in (first, second)]
    assert order(page) == "D>B=C>A"
    assert page.locator("textarea").input_value() == "not sure"
    keys(page, "a", "1", "Control+Enter")
    page.wait_for_selector("text=Put all 2 in order")
    assert by_letter(site.vote(first)) == "A>D>BC"


def test_a_draft_outlives_the_server(visit, own_site) -> None:
    site = own_site()
    question = site.ask("alpha", "beta", "gamma")
    visit.expect("net::ERR_|Failed to load resource|Failed to fetch")
    page = visit(site=site)
    keys(page, "b", "1")
    saved(page)
    assert site.stop() == ""
    page.wait_for_selector("text=Connection lost, your draft is kept")
    keys(page, "c", "1")
    page.wait_for_selector("text=Not saved, retrying")
    site.start()
    saved(page)
    page.wait_for_selector("#lost:empty", state="attached")
    page.reload()
    assert order(page) == "C>B"
    assert site.store.votes(question) == []
    press(page, "A", "next")
    submit(page)
    assert by_letter(site.vote(question)) == "C>B>A"


def test_an_idle_page_wakes_by_itself(visit, ask, site) -> None:
    page = visit()
    assert page.locator("h1").inner_text() == "Nothing to rank just now"
    began = time.monotonic()
    question = ask("alpha", "beta")
    page.wait_for_selector("#answer")
    assert time.monotonic() - began < 3
    for letter in "AB":
        press(page, letter, "next")
    submit(page)
    assert by_letter(site.vote(question)) == "A>B"


def test_without_scripts_the_selects_do_it(visit, ask, site) -> None:
    first, second = ask(*FOUR), ask("one", "two")
    visit.expect("422")
    page = visit(java_script_enabled=False)
    assert page.locator("[data-do=next]").first.is_hidden()
    page.get_by_label("Place of C").select_option("1")
    page.get_by_label("Place of A").select_option("2")
    page.get_by_label("Place of D").select_option("2")
    page.locator("textarea").fill("by hand")
    page.get_by_role("button", name="Submit").click()
    assert "Not placed yet: B" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Place of D").input_value() == "2"
    assert page.locator("textarea").input_value() == "by hand"
    assert site.store.votes(first) == []
    page.get_by_label("Place of B").select_option("4")
    page.get_by_role("button", name="Submit").click()
    assert by_letter(site.vote(first)) == "C>AD>B"
    page.locator("summary").click()
    page.get_by_label("Why").select_option("broken")
    page.get_by_role("button", name="Skip").click()
    assert page.locator("h1").inner_text() == "Nothing to rank just now"
    assert site.vote(second).ranking.cannot_judge


def test_skipping_says_why(visit, ask, site) -> None:
    question = ask(*FOUR)
    page = visit()
    keys(page, "a", "1")
    page.get_by_text("Skip this one").click()
    page.get_by_label("Why").select_option("offensive")
    page.get_by_role("button", name="Skip").click()
    page.wait_for_selector("text=Nothing to rank just now")
    vote = site.vote(question)
    assert (vote.ranking.cannot_judge, vote.ranking.note, by_letter(vote)) == (True, "offensive", "|ABCD")


def test_a_pair(visit, ask, site) -> None:
    first, second, third = (ask("alpha", "beta", mode="pair") for _ in range(3))
    page = visit()
    assert page.get_by_role("button", name="Submit").is_disabled()
    page.get_by_role("button", name="A is better").click()
    page.get_by_role("button", name="B is better").click()
    assert page.locator("[data-choice=B]").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Submit").click()
    page.wait_for_selector("#answered:text-is('1')")
    page.get_by_role("button", name="Equal").click()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_selector("#answered:text-is('2')")
    keys(page, "b", "2", "Control+Enter")  # the other is better
    page.wait_for_selector("text=Nothing to rank just now")
    assert [by_letter(site.vote(question)) for question in (first, second, third)] == ["B>A", "AB", "A>B"]


def test_the_best_one(visit, ask, site) -> None:
    question = ask(*FOUR, mode="best")
    page = visit()
    page.get_by_role("button", name="A is the best").click()
    page.get_by_role("button", name="C is the best").click()
    assert page.locator("[aria-pressed=true]").count() == 1
    submit(page)
    assert by_letter(site.vote(question)) == "C|ABD"


def test_the_top_two(visit, ask, site) -> None:
    question = ask(*FOUR, mode="top", k=2)
    page = visit()
    assert page.locator("h1").inner_text() == "Put the 2 best of 4 in order"
    press(page, "D", "next")
    assert page.get_by_role("button", name="Submit").is_disabled()
    press(page, "B", "next")
    submit(page)
    assert by_letter(site.vote(question)) == "D>B|AC"


def test_what_a_model_wrote_is_shown_and_not_run(visit, ask, site) -> None:
    attacks = (
        "<script>window.ran = 1</script>",
        "<img src=x onerror='window.ran = 2'> [click](javascript:window.ran=3)",
        "```\n</code></pre></div><svg onload=window.ran=4>\n```",
        "\"'><iframe srcdoc='<script>parent.ran = 5</script>'></iframe>{{ 7 * 7 }}",
    )
    question = ask(*attacks, prompt="<b onmouseover=window.ran=6>bold</b>")
    page = visit(name="<u>Eve</u>")
    shown = page.locator("main").inner_text()
    for text in (
        "<script>window.ran = 1</script>",
        "<img src=x onerror=",
        "</code></pre></div><svg onload",
        "{{ 7 * 7 }}",
    ):
        assert text in shown
    assert page.locator(".who bdi").inner_text() == "<u>Eve</u>"
    assert "<b onmouseover=window.ran=6>" in page.locator("#prompt").inner_text()
    assert page.locator(".content :is(script, img, svg, iframe, a, b, [onerror], [onload])").count() == 0
    page.get_by_role("button", name="Differences").click()
    page.wait_for_selector("#diff-parts :is(ins, del)")
    assert page.locator("#diff-parts").locator("script, img, svg, iframe").count() == 0
    keys(page, "Escape")
    for letter in "ABCD":
        press(page, letter, "next")
    page.locator("textarea").fill("<script>window.ran = 7</script>")
    saved(page)
    page.reload()
    assert page.locator("textarea").input_value() == "<script>window.ran = 7</script>"
    assert page.evaluate("window.ran") is None
    submit(page)
    vote = site.vote(question)
    assert (sorted(seen(vote)), vote.ranking.note) == (sorted(attacks), "<script>window.ran = 7</script>")
    assert vote.annotator == "<u>Eve</u>"


def test_differences_of_two(visit, ask, site) -> None:
    question = ask("The cat sat on the mat.", "The dog sat on the mat.")
    page = visit()
    page.get_by_role("button", name="Differences").click()
    page.wait_for_selector("#diff-parts :is(ins, del)")
    words = sorted(page.locator("#diff-parts del, #diff-parts ins").all_inner_texts())
    assert words == ["cat", "dog"]
    assert page.locator("#diff-parts").inner_text().startswith("The ")
    keys(page, "a", "1")  # keys are of the page, not of the dialog
    page.get_by_role("button", name="Close").click()
    assert order(page) == ""
    plain = visit(java_script_enabled=False)
    assert plain.locator("h1").inner_text() == "Nothing to rank just now"  # the first has it
    assert site.store.votes(question) == []


def test_differences_without_scripts_open_beside_the_form(visit, ask, site) -> None:
    question = ask("The cat sat.", "The dog sat.")
    page = visit(java_script_enabled=False)
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Differences").click()
    opened.value.wait_for_selector(".diff del")
    assert sorted(opened.value.locator(".diff del, .diff ins").all_inner_texts()) == ["cat", "dog"]
    assert site.store.votes(question) == []


def test_an_open_page_says_when_its_question_is_gone(visit, ask, site) -> None:
    question = ask("alpha", "beta")
    page = visit()
    site.store.withdraw(question)
    page.wait_for_selector("#gone:visible")
    assert json.loads(page.locator("#waiting").inner_text()) == 0
    assert site.store.votes(question) == []
