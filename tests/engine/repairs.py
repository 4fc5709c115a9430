"""Twenty small functions with a bug each: what is wrong in the source, what is right, and what is expected.

Expected values come from the standard library or another way to the same result, never from the function itself.
"""

from __future__ import annotations

import bisect
import datetime
import itertools
import math
import statistics
import string
from collections import Counter

from engine import Feedback, trace

node = trace.node(trainable=True, timeout_s=1.0)


@node
def largest(xs):
    best = 0
    for x in xs:
        if x > best:
            best = x
    return best


@node
def total_between(low, high):
    return sum(range(low, high))


@node
def is_leap(year):
    return year % 4 == 0 and year % 100 != 0 and year % 400 == 0


@node
def factorial(n):
    result = 1
    for i in range(1, n):
        result *= i
    return result


@node
def median(xs):
    xs = sorted(xs)
    middle = len(xs) // 2
    return xs[middle] if len(xs) % 2 == 0 else (xs[middle - 1] + xs[middle]) / 2


@node
def is_palindrome(text):
    letters = [c for c in text if c.isalpha()]
    return letters == letters[::-1]


@node
def count_vowels(text):
    return sum(c in "aeio" for c in text.lower())


@node
def gcd(a, b):
    return max(a, b) if a % b == 0 else gcd(b, a % b)


@node
def is_prime(n):
    if n < 2:
        return False
    return all(n % d for d in range(2, int(n**0.5)))


@node
def flattened(rows):
    return [x for row in rows for x in row[1:]]


@node
def unique(xs):
    found = []
    for x in xs:
        if x in found:
            found.append(x)
    return found


@node
def caesar(text, shift):
    return "".join(chr((ord(c) - 97 + shift) % 25 + 97) for c in text)


@node
def digits_sum(n):
    return sum(int(d) for d in str(n)[1:])


@node
def clamped(x, low, high):
    return min(low, max(x, high))


@node
def variance(xs):
    mean = sum(xs) / len(xs)
    return sum((x - mean) ** 2 for x in xs) / (len(xs) + 1)


@node
def position(xs, x):
    return sum(y <= x for y in xs)


@node
def most_common(text):
    return min(sorted(set(text)), key=text.count)


@node
def pairs(xs):
    return [[a, b] for i, a in enumerate(xs) for b in xs[i:]]


@node
def titled(text):
    return " ".join(word[0].upper() + word[0:].lower() for word in text.split())


@node
def runs(xs):
    best = now = 1
    for a, b in itertools.pairwise(xs):
        now = now + 1 if b > a else 0
        best = max(best, now)
    return best


def longest_run(xs):
    starts = range(len(xs))
    return max(
        k for i in starts for k in range(1, len(xs) - i + 1) if list(xs[i : i + k]) == sorted(set(xs[i : i + k]))
    )


def leap(year):
    return datetime.date(year, 12, 31).timetuple().tm_yday == 366


NUMBERS = [(1, 4, 2), (-3, -1, -2), (-5, -4), (0, 7), (-1, -9, -4), (3,), (-2,), (5, 5, 1), (-8, -6), (2, 9, 4, 1)]
WORDS = [
    "Anna",
    "abc",
    "Was it a car",
    "Otto",
    "No lemon, no melon",
    "Eve",
    "hello world",
    "Bob",
    "rust",
    "unusual sun",
]
SMALL = range(2, 14)
CASES = {
    largest: ("best = 0", "best = xs[0]", [[list(xs)] for xs in NUMBERS], max),
    total_between: ("high))", "high + 1))", [[a, a + b] for a in (-2, 0, 3, 8, 5) for b in (1, 4)],
                    lambda a, b: (a + b) * (b - a + 1) // 2),
    is_leap: ("and year % 400 == 0", "or year % 400 == 0", [[y] for y in (1900, 1904, 2000, 2004, 2020, 2023, 2024,
              2100, 2400, 1996)], leap),
    factorial: ("range(1, n)", "range(1, n + 1)", [[n] for n in SMALL], math.factorial),
    median: ("== 0", "== 1", [[list(xs)] for xs in NUMBERS], statistics.median),
    is_palindrome: ("[c for", "[c.lower() for", [[w] for w in WORDS],
                    lambda t: (s := "".join(filter(str.isalpha, t.casefold()))) == "".join(reversed(s))),
    count_vowels: ('"aeio"', '"aeiou"', [[w] for w in ["us", "tune", "undo", "you", "sun", *WORDS[:6]]],
                   lambda t: len(t) - len(t.translate(str.maketrans("", "", "aeiouAEIOU")))),
    gcd: ("max(", "min(", [[a, b] for a, b in ((9, 4), (7, 3), (12, 18), (10, 3), (25, 8),
          (81, 27), (17, 4), (99, 7), (64, 9), (13, 6))], math.gcd),
    is_prime: ("n**0.5)", "n**0.5) + 1", [[n] for n in (4, 6, 8, 9, 15, 25, 7, 11, 49, 13, 1)],
               lambda n: sum(n % d == 0 for d in range(1, n + 1)) == 2),
    flattened: ("row[1:]", "row", [[[[1, a], [], [b]]] for a in (2, 3) for b in range(5)],
                lambda rows: list(itertools.chain(*rows))),
    unique: ("if x in", "if x not in", [[list(xs)] for xs in NUMBERS], lambda xs: list(dict.fromkeys(xs))),
    caesar: ("% 25", "% 26", [[w, k] for w in ("xyz", "abc", "trace", "zebra", "quiz") for k in (3, 25)],
             lambda t, k: t.translate(str.maketrans(
                 string.ascii_lowercase, string.ascii_lowercase[k:] + string.ascii_lowercase[:k]))),
    digits_sum: ("[1:]", "", [[n] for n in (5, 12, 99, 100, 207, 31415, 8, 60, 71, 1000)],
                 lambda n: sum(n // 10**k % 10 for k in range(6))),
    clamped: ("min(low, max(x, high))", "max(low, min(x, high))", [[x, 2, 6] for x in range(-2, 10)],
              lambda x, low, high: sorted([x, low, high])[1]),
    variance: ("(len(xs) + 1)", "len(xs)",
               [[list(xs)] for xs in NUMBERS if len(xs) > 1] + [[[1, x]] for x in (3, 5, 7)],
               lambda xs: statistics.pvariance(map(float, xs))),
    position: ("<= x", "< x", [[[1, 3, 3, 5, 8], x] for x in range(10)], bisect.bisect_left),
    most_common: ("min(", "max(", [[w] for w in ("abba!", "hello", "see", "moon", "banana", "noon!", "attic", "queue",
                  "eerie", "level")], lambda t: min(Counter(t).items(), key=lambda item: (-item[1], item[0]))[0]),
    pairs: ("xs[i:]", "xs[i + 1 :]", [[list(range(k))] for k in range(1, 11)],
            lambda xs: [list(pair) for pair in itertools.combinations(xs, 2)]),
    titled: ("word[0:]", "word[1:]", [[w] for w in WORDS], string.capwords),
    runs: ("else 0", "else 1", [[xs] for xs in ([3, 1, 2, 4], [5, 1, 2], [9, 3, 4, 8, 1], [2, 1, 3, 5, 7], [1, 2, 3],
           [4, 4, 5], [6, 2, 9], [7, 1, 2, 3, 4], [1], [8, 2, 5, 6])], longest_run),
}  # fmt: skip


def fixed(function):
    """The right source."""
    wrong, right, _, _ = CASES[function]
    source = function.code.value
    assert source.count(wrong) == 1, function
    return source.replace(wrong, right)


def examples(function):
    """(arguments, expected value) of each test of a function."""
    _, _, inputs, expected = CASES[function]
    return [(arguments, expected(*arguments)) for arguments in inputs]


def judge(example, output):
    """1 for the expected value; the feedback says what was expected."""
    arguments, expected = example
    is_close = isinstance(expected, float) and isinstance(output, float | int) and math.isclose(output, expected)
    if is_close or (output == expected and isinstance(output, bool) == isinstance(expected, bool)):
        return Feedback(1.0)
    return Feedback(0.0, f"for {arguments} it gave {output!r:.100} instead of {expected!r}")
