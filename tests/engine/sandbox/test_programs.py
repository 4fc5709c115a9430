"""Ordinary programs, as self-play proposes them, with results worked out by hand or known from elsewhere."""

import pytest

from engine.sandbox import Sandbox

PROGRAMS = {
    "itertools": ("from itertools import permutations\nRESULT = [''.join(p) for p in permutations('abc')]",
                  ["abc", "acb", "bac", "bca", "cab", "cba"]),
    "counter": ("from collections import Counter\nRESULT = dict(Counter('mississippi'))",
                {"m": 1, "i": 4, "s": 4, "p": 2}),
    "defaultdict": ("""
from collections import defaultdict
groups = defaultdict(list)
for word in "a bb cc ddd".split():
    groups[len(word)].append(word)
RESULT = dict(groups)""", {1: ["a"], 2: ["bb", "cc"], 3: ["ddd"]}),
    "deque": ("from collections import deque\nd = deque([1, 2, 3, 4])\nd.rotate(1)\nRESULT = list(d)", [4, 1, 2, 3]),
    "regular expressions": (r"import re" "\n" r"RESULT = re.findall(r'(\w+)@(\w+)\.org', 'ann@pine.org, bob@oak.org')",
                            [("ann", "pine"), ("bob", "oak")]),
    "math": ("import math\nRESULT = (math.gcd(84, 36), math.comb(10, 3), math.isqrt(99), math.factorial(10))",
             (12, 120, 9, 3628800)),
    "dataclasses": ("""
from __future__ import annotations
from dataclasses import dataclass, field, asdict
@dataclass(order=True)
class Item:
    price: float
    name: str = field(compare=False)
RESULT = [asdict(item) for item in sorted([Item(2.5, "b"), Item(1.0, "a")])]""",
                    [{"price": 1.0, "name": "a"}, {"price": 2.5, "name": "b"}]),
    "generators": ("""
def primes():
    found, n = [], 2
    while True:
        if all(n % p for p in found):
            found.append(n)
            yield n
        n += 1
from itertools import islice
RESULT = list(islice(primes(), 10))""", [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]),
    # Mersenne Twister seeded by init_by_array, as CPython has done since 3.2; random.Random(42).random() is well known.
    "seeded random": ("import random\nrandom.seed(42)\nRESULT = random.random()", 0.6394267984578837),
    "functools": ("""
from functools import lru_cache, reduce
@lru_cache(maxsize=None)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
RESULT = (fib(90), reduce(lambda a, b: a * b, range(1, 6)))""", (2880067194370816120, 120)),
    "heapq": ("""
import heapq
graph = {"a": {"b": 1, "c": 4}, "b": {"c": 2, "d": 6}, "c": {"d": 3}, "d": {}}
best, queue = {}, [(0, "a")]
while queue:
    cost, node = heapq.heappop(queue)
    if node not in best:
        best[node] = cost
        for other, step in graph[node].items():
            heapq.heappush(queue, (cost + step, other))
RESULT = best""", {"a": 0, "b": 1, "c": 3, "d": 6}),
    "bisect": ("import bisect\nRESULT = [bisect.bisect([60, 70, 80], score) for score in (59, 60, 85)]", [0, 1, 3]),
    "statistics": (
                   "from statistics import *\n"
                   "RESULT = mean([1, 2, 3, 4]), median([5, 1, 3]), pstdev([2, 4, 4, 4, 5, 5, 7, 9])",
                   (2.5, 3, 2.0)),
    "fractions": ("from fractions import Fraction\nRESULT = str(sum(Fraction(1, n) for n in range(1, 5)))", "25/12"),
    "decimal": ("from decimal import Decimal\nRESULT = str(Decimal('0.1') + Decimal('0.2'))", "0.3"),
    "datetime": ("from datetime import date, timedelta\nRESULT = (date(2024, 2, 28) + timedelta(days=2)).isoformat()",
                 "2024-03-01"),
    "json": ("import json\nRESULT = json.loads(json.dumps({'a': [1, None, True], 'b': 'ü'}))",
             {"a": [1, None, True], "b": "ü"}),
    "strings": ("RESULT = ' '.join(w.capitalize() for w in 'the quick brown fox'.split())[::-1]",
                "xoF nworB kciuQ ehT"),
    "enum and typing": ("""
from enum import Enum, auto
from typing import NamedTuple
class Suit(Enum):
    CLUBS = auto()
    HEARTS = auto()
class Card(NamedTuple):
    suit: Suit
    rank: int
RESULT = [(c.suit.name, c.rank) for c in (Card(Suit.HEARTS, 3), Card(Suit.CLUBS, 9))]""",
                        [("HEARTS", 3), ("CLUBS", 9)]),
    "classes": ("""
import copy
class Node:
    def __init__(self, value, left=None, right=None):
        self.value, self.left, self.right = value, left, right
    def __iter__(self):
        if self.left: yield from self.left
        yield self.value
        if self.right: yield from self.right
tree = Node(4, Node(2, Node(1)), Node(6))
other = copy.deepcopy(tree)
other.left.value = 3
RESULT = (list(tree), list(other))""", ([1, 2, 4, 6], [1, 3, 4, 6])),
    "exceptions": ("""
def divide(a, b):
    try:
        return a / b
    except ZeroDivisionError as error:
        return type(error).__name__
    finally:
        log.append((a, b))
log = []
RESULT = [divide(1, 2), divide(1, 0), log]""", [0.5, "ZeroDivisionError", [(1, 2), (1, 0)]]),
    "a large number": ("RESULT = 2 ** 521 - 1", 2**521 - 1),
    "a dynamic programme": ("""
def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]
if __name__ == "__main__":
    RESULT = distance("kitten", "sitting")""", 3),
    "hashing": ("import hashlib, zlib\nRESULT = (hashlib.sha256(b'abc').hexdigest()[:16], zlib.crc32(b'123456789'))",
                ("ba7816bf8f01cfea", 0xCBF43926)),
    "matching": ("""
def area(shape):
    match shape:
        case {"kind": "square", "side": s}: return s * s
        case ("rect", w, h): return w * h
        case _: return None
RESULT = [area({"kind": "square", "side": 3}), area(("rect", 2, 5)), area(7)]""", [9, 10, None]),
    "less common modules": ("""
import argparse, calendar, colorsys, csv, difflib, graphlib, html, io, queue, shlex, string, textwrap, unittest
import uuid, xml.etree.ElementTree
rows = list(csv.reader(io.StringIO('a,"b,c"')))
order = list(graphlib.TopologicalSorter({"c": {"b"}, "b": {"a"}}).static_order())
RESULT = (rows, order, html.escape("<"), calendar.isleap(2000), textwrap.shorten("one two three", 9))""",
                            ([["a", "b,c"]], ["a", "b", "c"], "&lt;", True, "one [...]")),
    "big comprehension": ("RESULT = sum(n * n for n in range(100_000) if n % 3 == 0)",
                          9 * (33333 * 33334 * 66667 // 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS, ids=lambda name: name.replace(" ", "-"))
def test_an_ordinary_program_runs(sandbox: Sandbox, name: str) -> None:
    source, expected = PROGRAMS[name]
    outcome = sandbox.run(source, timeout_s=10.0)
    assert outcome.error is None
    assert (type(outcome.value), outcome.value) == (type(expected), expected)


def test_there_are_enough_programs() -> None:
    assert len(PROGRAMS) >= 25


def test_what_a_program_prints_and_reads(sandbox: Sandbox) -> None:
    source = (
        "import sys\nprint('aé')\nsys.stderr.write('b\\n')\ntry: input()\nexcept EOFError: print('end')\nRESULT = None"
    )
    outcome = sandbox.run(source)
    assert (outcome.ok, outcome.value) == (True, None)
    assert sorted(outcome.stdout.split()) == ["aé", "b", "end"]


def test_scratch_files_where_there_are_some(sandbox: Sandbox) -> None:
    source = (
        "import tempfile\nwith tempfile.NamedTemporaryFile('w+') as f:\n    f.write('x'); f.seek(0); RESULT = f.read()"
    )
    outcome = sandbox.run(source)
    assert outcome.value == ("x" if sandbox.tier == "namespaces" else None)
    assert sandbox.run("open('kept', 'w').write('x')\nRESULT = 1").ok == (sandbox.tier == "namespaces")
    assert not sandbox.run("RESULT = open('kept').read()").ok
