"""What is refused, by whom, from where, how large, how often and what it names; and how bad texts are shown."""

import asyncio
import http.client
import json
import random
import re
import signal
import socket
import time
from contextlib import ExitStack, closing, suppress
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from sqlalchemy import select

from engine.cli.main import main
from engine.ranking import Code, Media, RankingStore, Text
from engine.ranking.members import Members
from engine.ranking.tables import metadata
from engine.ranking.web.app import MOST_STREAMS, Form, make_app
from engine.ranking.web.guard import COOKIE, HEADERS, MAX_BODY
from engine.ranking.web.show import as_html, word_diff
from tests.engine.ranking.web.conftest import Site
from tests.engine.ranking.web.visitor import Visitor

PLACED = {"place_A": "1", "place_B": "2", "place_C": "3", "action": "submit"}
PNG = b"\x89PNG\r\n\x1a\n"
EVIL = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "![y](http://x/y.png)",
    '"><b onclick=x>',
    "<a href='http://x'>",
    "```\n</code></pre><script>\n```",
    "&lt;i&gt; &#60;u&#62;",
    "| a |\n|---|\n| <svg/onload=x> |",
    "<http://x.example>",
    "[r]\n\n[r]: http://x 'y'",
    "\u202egpj.exe",
    '```x\u202e"onclick=x\n<b>\n```',
    "| a |\n|:-:|\n| b |",
    "\ue000<b>\ue001",
    "</textarea></select><script>alert(1)</script>",
    "{{ 7 * 7 }}{% include 'x' %}",
)


def kept(site):
    """All that the store holds, but for the sign of life of its server."""
    tables = [table for table in metadata.sorted_tables if table.name != "servers"]
    with site.store.database.reading() as connection:
        return {table.name: sorted(map(repr, connection.execute(select(table)))) for table in tables}


@pytest.fixture
def visit(site):
    """A visitor with a session of its own, before whom a question lies."""
    names = iter(range(100))

    def visit():
        site.ask("a", "b", "c", votes=9)
        return Visitor(site.port, site.session(f"visitor {time.time()} {next(names)}"))

    yield visit
    site.clear()


def test_without_a_valid_session_nothing_is_shown_or_taken(site, visit):
    visitor = visit()
    fields, before = visitor.form() | PLACED, kept(site)
    for secret in ("", "x" * 43, "\x7f", "a;b=c", visitor.secret[:-1], visitor.secret + "A", visitor.secret.upper()):
        stranger = Visitor(site.port, secret)
        for path in ("/", "/events", f"/compare?item={fields['item']}&left=A&right=B", "/blob/" + "0" * 64):
            assert stranger.ask(path).status == 401
        for path in ("/answer", "/draft", "/undo"):
            assert stranger.ask(path, fields).status == 401
    assert kept(site) == before


def test_a_forged_a_cut_and_a_revoked_link_sign_nobody_in(site):
    link = site.link("gone")
    token = link.rpartition("/")[2]
    stranger = Visitor(site.port)
    for forged in (token[:-1], token[:-1] + "A" * (token[-1] != "A"), token.upper(), "%00", "..", "x" * 3000):
        found = stranger.ask(f"/join/{forged}")
        assert found.status == 401 and "set-cookie" not in found.headers
    found = stranger.ask(f"/join/{token}")
    cookie = found.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/"))
    member = Visitor(site.port, re.search(r"rank_session=([\w-]+)", cookie)[1])
    assert member.ask("/").status == 200
    Members(site.store).revoke("gone")
    assert stranger.ask(f"/join/{token}").status == member.ask("/").status == 401


def test_looking_at_a_link_signs_nobody_in(site):
    token = site.link("previewed").rpartition("/")[2]
    assert "set-cookie" not in Visitor(site.port).ask(f"/join/{token}", method="HEAD").headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://["},
        {"Origin": None},
        {"Origin": None, "Sec_Fetch_Site": "cross-site"},
        {"Origin": None, "Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused(site, visit, headers):
    visitor = visit()
    fields = visitor.form() | PLACED
    before = kept(site)
    for path in ("/answer", "/draft", "/undo"):
        assert visitor.ask(path, fields, **headers).status == 403
    assert kept(site) == before
    assert visitor.ask("/answer", fields, Origin=None, Sec_Fetch_Site="same-origin").status == 303


def test_a_form_needs_the_mark_of_its_own_session(site, visit):
    visitor, other = visit(), visit()
    fields = visitor.form() | PLACED
    marks = ("", "0" * 64, other.form()["csrf"], "é", fields["csrf"].upper(), fields["csrf"][:-1])
    before = kept(site)
    for path in ("/answer", "/draft", "/undo"):
        for mark in marks:
            assert visitor.ask(path, fields | {"csrf": mark}).status == 403
        assert visitor.ask(path, {name: value for name, value in fields.items() if name != "csrf"}).status == 403
    assert kept(site) == before


def test_a_name_that_was_made_to_lead_here_is_refused(site, visit):
    visitor = visit()
    fields, before = visitor.form() | PLACED, kept(site)
    for host in ("evil.example", f"evil.example:{site.port}", "127.0.0.1.evil.example", "", "[", "localhost@evil"):
        assert visitor.ask("/", Host=host).status == 421
        assert visitor.ask("/answer", fields, Host=host, Origin=f"http://{host}").status == 421
    assert kept(site) == before
    for host in (f"localhost:{site.port}", "127.0.0.1", f"[::1]:{site.port}"):
        assert visitor.ask("/", Host=host).status == 200


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd", "/static/form.css%00",
     "/static/vendor", "/blob/../../etc/passwd", "/blob/%2e%2e%2f", "/blob/" + "G" * 64, "/blob/" + "0" * 63,
     "//etc/passwd", "/static/....//app.py"],
)  # fmt: skip
def test_no_path_of_a_client_reaches_a_file(visit, path):
    assert visit().ask(path).status == 404


def test_a_body_that_is_too_long_is_refused_whatever_it_says_of_itself(site, visit):
    visitor = visit()
    fields = visitor.form() | PLACED
    assert visitor.ask("/answer", fields | {"note": "x" * MAX_BODY}).status == 413
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    headers = {"Cookie": f"rank_session={visitor.secret}", "Origin": visitor.origin,
               "Content-Type": "application/x-www-form-urlencoded"}  # fmt: skip
    connection.request("POST", "/answer", (b"x" * 8192 for _ in range(12)), headers, encode_chunked=True)
    with closing(connection), connection.getresponse() as found:
        assert found.status == 413
    for length in ("-1", "x", "9" * 30):
        with socket.create_connection(("127.0.0.1", site.port), timeout=20) as raw:
            raw.sendall(f"POST /answer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n".encode())
            assert re.match(rb"HTTP/1.1 (400|403|413)", raw.recv(100))
    assert site.store.votes(fields["item"]) == []


def raw(port, data):
    """All that the server sends to the bytes until it hangs up or has nothing more to say."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection, suppress(TimeoutError, OSError):
        connection.sendall(data)
        while part := connection.recv(65_536):
            said += part
    return said


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/" + "a" * 9_000, "", 414),
        ("/?said=" + "a" * 9_000, "", 414),
        ("/health", "X: " + "x" * 33_000, 431),
        ("/health", "\r\n".join(f"X{number}: {'x' * 90}" for number in range(400)), 431),
        ("/health", "X: " + "x" * 300_000, 400),
        ("/" + "a" * 300_000, "", 400),
        ("/health", "X: y", 200),
    ],
)
def test_a_head_that_is_too_long_is_refused(site, path, headers, status):
    end = "Connection: close\r\n\r\n"
    found = raw(site.port, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n{end}".encode())
    # The server may hang up on what is very long while it is still being sent, before its answer is read.
    assert found.startswith(f"HTTP/1.1 {status} ".encode()) or (status == 400 and found == b"")


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n X: y\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    ],
)
def test_what_is_no_http_is_refused_and_the_server_serves_on(site, data):
    assert re.match(rb"HTTP/1\.1 (400|501) ", raw(site.port, data))
    assert Visitor(site.port).ask("/health").text == "ok\n"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "LOCK"])
def test_other_methods_are_refused(visit, method):
    assert visit().ask("/", method=method).status == 405


def test_methods_of_other_routes_are_refused(visit):
    visitor = visit()
    assert visitor.ask("/", {"a": "b"}).status == visitor.ask("/answer").status == 405


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"item": "0" * 24}, 404),
        ({"item": "../x"}, 404),
        ({"item": "\x00"}, 404),
        ({"item": ""}, 404),
        ({"place_A": "0"}, 422),
        ({"place_A": "1\x00"}, 422),
        ({"place_A": "9" * 5000}, 422),
        ({"place_A": "10"}, 422),
        ({"place_A": "-1"}, 422),
        ({"place_A": "1e3"}, 422),
        ({"place_A": "\u0661"}, 422),
        ({"place_A": ""}, 422),
        ({"place_A": "", "place_B": "", "place_C": ""}, 422),
        ({"note": "x" * 2001}, 422),
        ({"form_id": "short"}, 422),
        ({"form_id": "x" * 65}, 422),
    ],
)
def test_what_no_form_of_ours_sends_is_refused_and_changes_nothing(site, visit, changes, status):
    visitor = visit()
    fields, before = visitor.form() | PLACED | changes, kept(site)
    assert visitor.ask("/answer", fields).status == status
    assert kept(site) == before


def test_places_of_other_candidates_are_not_taken(site, visit):
    visitor = visit()
    fields = visitor.form() | PLACED | {"place_D": "1", "place_Z": "1", "place_": "1", "ranking": "[[1]]"}
    assert visitor.ask("/answer", fields).status == 303
    vote = site.vote(fields["item"])
    assert set(vote.ranking.ids) == set(vote.candidates) and len(vote.ranking.ids) == 3
    missing = visit()
    assert missing.ask("/answer", missing.form() | {"place_D": "1"}).status == 422  # without its own


def test_somebody_elses_question_is_not_seen_and_cannot_be_answered(site):
    site.clear()
    mine, theirs = site.ask("a", "b", "c"), site.ask("d", "e", "f")
    owner, other = (Visitor(site.port, site.session(f"{name} {time.time()}")) for name in ("owner", "other"))
    assert owner.form()["item"] == mine
    fields = other.form()
    assert fields["item"] == theirs
    before = kept(site)
    for path in ("/answer", "/draft"):
        assert other.ask(path, fields | PLACED | {"item": mine}).status == 404
    assert other.ask(f"/compare?item={mine}&left=A&right=B").status == 404
    assert kept(site) == before
    site.clear()


def test_a_form_that_is_sent_again_counts_once_also_after_undo(site, visit):
    visitor = visit()
    fields = visitor.form() | PLACED
    answers = [visitor.ask("/answer", fields) for _ in range(2)]
    assert [found.status for found in answers] == [303, 303]
    assert answers[1].headers["location"] == "/?said=again"
    assert len(site.store.votes(fields["item"])) == 1
    assert visitor.ask("/undo", {"csrf": fields["csrf"]}).status == 303
    assert visitor.ask("/answer", fields).headers["location"] == "/?said=again"
    assert site.store.votes(fields["item"]) == []  # what was taken back is not put back by an old page


def test_too_many_requests_are_told_to_wait(own_site):
    site = own_site(rate=5)
    visitor = Visitor(site.port, site.session("hasty"))
    calm = Visitor(site.port, site.session("calm"))
    assert calm.ask("/").status == 200
    found = [visitor.ask("/") for _ in range(40)]
    assert {answer.status for answer in found} == {200, 429}
    assert int(found[-1].headers["retry-after"]) >= 1
    strangers = [Visitor(site.port, f"made up {number}").ask("/").status for number in range(40)]
    assert 429 in strangers  # cookies that are no sessions count together
    assert calm.ask("/").status == 200


def test_every_answer_has_the_headers_that_fence_it_in(site, visit):
    visitor = visit()
    fields = visitor.form()
    answers = [
        visitor.ask("/"), visitor.ask("/nothing"), visitor.ask("/answer", fields | {"csrf": ""}),
        visitor.ask("/answer", fields), visitor.ask("/", method="PUT"), visitor.ask("/", Host="evil"),
        Visitor(site.port).ask("/"), visitor.ask("/static/form.js"), visitor.ask("/health"),
        visitor.ask("/answer", fields | {"note": "x" * MAX_BODY}),
    ]  # fmt: skip
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name.lower()] == value, answer
        assert answer.headers["cache-control"] == "no-store" and "server" not in answer.headers
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_a_fault_of_ours_is_fenced_in_too_and_tells_nothing(tmp_path):
    with RankingStore(tmp_path / "rankings.sqlite") as store:
        form = Form(store, lease_s=600, is_secure=False)
        form.members.signed_in = lambda secret: 1 / 0
        app, sent = make_app(form, hosts=["localhost"]), []
        headers = [(b"host", b"localhost"), (b"cookie", b"rank_session=x")]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b"", "client": None}

        async def receive():
            return {"type": "http.request", "body": b""}

        async def send(message):
            sent.append(message)

        with pytest.raises(ZeroDivisionError):  # for the log
            asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 500 and b"division" not in sent[1]["body"]
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert all(found[name.lower()] == value for name, value in HEADERS.items())


class Page(HTMLParser):
    """Counts the tags of a page with the names of their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))

    @property
    def foreign(self):
        """The tags that no text may make, and the attributes that those it may make do not have."""
        made = {"p", "span", "table", "thead", "tbody", "tr", "th", "td", "pre", "code", "div", "ins", "del"}
        ours = {"class", "id", "dir", "aria-hidden", "aria-label", "hidden", "role", "title", "aria-live"}
        return sorted((tag, names) for tag, names in self.tags if tag not in made or not ours.issuperset(names))


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_model_wrote_is_shown_and_not_obeyed(site, evil):
    """The pages have the tags that they have around harmless text, but for those of Markdown."""
    pages = []
    for text in ("harmless", evil):
        pictures = [Media(PNG + bytes([number]), alt=text) for number in range(2)]
        site.ask(Text(text), Code(text, language=text), text + " ", "other", *pictures, prompt=text)
        name = text[:60] if text.isprintable() else "reader"
        visitor = Visitor(site.port, site.session(f"{name} {time.time()}"))
        fields = visitor.form()
        visitor.ask("/draft", fields | {"note": text})
        for path in ("/", f"/compare?item={fields['item']}&left=A&right=B", f"/compare?item=x&left={quote(text)}"):
            page = visitor.ask(path).text
            assert evil not in page or "<" not in evil
            pages.append(Page(page).foreign)
        site.clear()
    assert pages[:3] == pages[3:]


def test_hidden_characters_are_spelled_out():
    shown = as_html({"kind": "markdown", "text": "a\u202eb\u200bc\x07"})
    assert re.findall(r"U\+[0-9A-F]{4}", shown) == ["U+202E", "U+200B", "U+0007"]
    assert not re.search("[\u202e\u200b\x07]", shown)
    assert all("\u202e" not in text for _, text in word_diff("a \u202e b", "a c"))
    assert "\u200d" in as_html({"kind": "text", "text": "\U0001f469\u200d\U0001f680"})  # joins an emoji


def test_the_differences_of_two_texts_are_words():
    assert word_diff("the cat sat", "the dog sat") == [("=", "the "), ("-", "cat"), ("+", "dog"), ("=", " sat")]
    assert word_diff("a b\n c", "a  b") == [("=", "a "), ("-", "b\n c"), ("+", " b")]
    assert word_diff("", "x") == [("+", "x")] and word_diff("x", "x") == [("=", "x")]


@pytest.mark.parametrize(("most", "steps"), [(10**6, 10**6), (10**6, 20), (4, 10**6), (0, 0)])
def test_the_differences_hold_both_texts_however_they_are_found(monkeypatch, most, steps):
    monkeypatch.setattr("engine.ranking.web.show.MOST_PAIRS", most)
    monkeypatch.setattr("engine.ranking.web.show.MOST_STEPS", steps)
    chance = random.Random(0)
    for _ in range(500):
        left, right = ("".join(chance.choices("ab c\n.", k=chance.randrange(30))) for _ in range(2))
        parts = word_diff(left, right)
        assert "".join(text for op, text in parts if op != "+") == left
        assert "".join(text for op, text in parts if op != "-") == right
        assert all(text for _, text in parts)


@pytest.mark.parametrize(
    ("left", "right"),
    [("so " * 33_000, "no " + "so " * 33_000), ("a b " * 1200, "b b a " * 800), ("so\n" * 33_000, "no\n" * 40_000)],
)
def test_texts_that_repeat_themselves_are_compared_soon(left, right):
    """The number of comparisons would be their product, of hours."""
    started = time.process_time()
    assert word_diff(left, right)
    assert time.process_time() - started < 10


def test_no_secret_is_printed_and_open_pages_do_not_keep_the_server_from_stopping(own_site):
    site = own_site()
    site.ask("a", "b")
    link = site.link("ann")
    secret = site.session("ann")
    visitor = Visitor(site.port, secret)
    visitor.ask(f"/join/{link.rpartition('/')[2]}")
    visitor.ask("/answer", visitor.form() | PLACED)
    streams = []
    for _ in range(6):
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
        connection.request("GET", "/events", headers={"Cookie": f"rank_session={secret}"})
        streams.append((connection, connection.getresponse()))
    assert sorted(stream.status for _, stream in streams) == [200] * 4 + [429] * 2
    first = next(stream for _, stream in streams if stream.status == 200)
    assert first.readline() == b"event: state\n"
    assert set(json.loads(first.readline().removeprefix(b"data: "))) == {"item", "answered", "waiting"}
    process, started = site.process, time.monotonic()
    assert site.stop() == ""  # neither links nor sessions nor complaints
    assert time.monotonic() - started < 3
    assert process.returncode == -signal.SIGTERM
    for connection, stream in streams:
        stream.close()
        connection.close()


def test_no_more_pages_are_listened_to_than_allowed_when_all_come_at_once(site):
    secret = site.session(f"many {time.time()}")
    asked = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {COOKIE}={secret}\r\n\r\n".encode()
    with ExitStack() as stack:
        many = [stack.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=9)) for _ in range(30)]
        for one in many:
            one.sendall(asked)
        said = [heard(one) for one in many]
        assert sum(b"event: state" in one for one in said) == MOST_STREAMS
        refused = [one for one in said if one.startswith(b"HTTP/1.1 429")]
        assert len(refused) == 30 - MOST_STREAMS and all(b"retry-after: 3" in one for one in refused)
    end = time.monotonic() + 5
    while (status := first_line(site.port, asked)) != b"HTTP/1.1 200 OK" and time.monotonic() < end:
        time.sleep(0.1)
    assert status == b"HTTP/1.1 200 OK"  # those that were closed count no longer


def heard(connection):
    """A refusal, or a stream as far as its first event."""
    said = b""
    while b"event: state" not in said and not (said.startswith(b"HTTP/1.1 429") and b"\r\n\r\n" in said):
        more = connection.recv(65_536)
        if not more:
            break
        said += more
    return said


def first_line(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(data)
        return connection.recv(100).partition(b"\r\n")[0]


def test_who_is_revoked_listens_no_longer(site):
    name = f"listener {time.time()}"
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=5)) as connection:
        connection.request("GET", "/events", headers={"Cookie": f"{COOKIE}={site.session(name)}"})
        with connection.getresponse() as stream:
            assert stream.readline() == b"event: state\n"
            Members(site.store).revoke(name)
            stream.read()  # it ends


def test_other_machines_come_only_when_told_so(tmp_path, capsys):
    assert main(["rank", "serve", str(tmp_path / "r.sqlite"), "--host", "0.0.0.0"]) == 2
    assert "--remote" in capsys.readouterr().err
    assert main(["rank", "serve", str(tmp_path / "r.sqlite"), "--url", "ftp://x"]) == 2


def test_answers_on_a_connection_that_is_kept_do_not_wait_for_the_one_before(site):
    """With Nagle's delay each of them waits 40 ms for the other side's acknowledgement."""
    seconds = []
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)) as connection:
        for _ in range(30):
            started = time.perf_counter()
            connection.request("GET", "/health")
            with connection.getresponse() as found:
                assert found.read() == b"ok\n"
            seconds.append(time.perf_counter() - started)
    assert sorted(seconds)[10] < 0.03  # the better ones, on a machine that has other work too


def test_a_port_that_is_taken_is_named(own_site, tmp_path, capsys):
    site: Site = own_site()
    assert main(["rank", "serve", str(tmp_path / "r.sqlite"), "--port", str(site.port)]) == 3
    assert f"port {site.port}" in capsys.readouterr().err
