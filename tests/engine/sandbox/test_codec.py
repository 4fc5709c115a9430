"""Values as bytes: all that is a value comes back, and nothing else is read."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sandbox.compare import same
from engine.sandbox.inside.codec import DEPTH, BadBytes, TooLarge, Unencodable, decode, encode
from engine.sandbox.inside.protocol import ERROR, VALUE, frame, parse_frame

LIMIT = 2**20
KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
VALUES = st.recursive(
    KEYS | st.floats() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4) | st.sets(KEYS, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_a_value_comes_back(value: object) -> None:
    assert same(decode(encode(value, LIMIT)), value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_are_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except BadBytes:
        return
    assert same(decode(encode(value, LIMIT)), value)


@given(VALUES, st.data())
def test_bytes_that_are_cut_or_changed_are_refused_or_another_value(value: object, data: st.DataObject) -> None:
    whole = encode(value, LIMIT)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BadBytes):
        decode(whole[:cut])
    with pytest.raises(BadBytes):
        decode(whole + b"N")


def test_the_layout_is_the_one_that_is_documented() -> None:
    assert encode([1, -1, "ü", None, True], LIMIT) == bytes.fromhex(
        "6c 05000000  69 01000000 01  69 01000000 ff  73 02000000 c3bc  4e  54".replace(" ", "")
    )
    assert encode(256, LIMIT) == b"i\x02\x00\x00\x00\x00\x01"
    assert encode(128, LIMIT) == b"i\x02\x00\x00\x00\x80\x00"
    assert encode(1.5, LIMIT) == b"f" + struct.pack("<d", 1.5)


@pytest.mark.parametrize(
    "value",
    [object(), [1, {2: lambda: 0}], type("I", (int,), {})(3), type("S", (str,), {})("a"), type("L", (list,), {})(),
     range(3), bytearray(b"a"), NotImplemented, Exception(), "\ud800", {"\udfff": 1}],
)  # fmt: skip
def test_what_is_of_no_built_in_type_is_refused(value: object) -> None:
    with pytest.raises(Unencodable):
        encode(value, LIMIT)


def test_depth_and_cycles() -> None:
    nested: list[object] = []
    for _ in range(DEPTH - 1):
        nested = [nested]
    assert decode(encode(nested, LIMIT)) == nested
    with pytest.raises(Unencodable, match="nested"):
        encode([nested], LIMIT)
    own: list[object] = []
    own.append(own)
    with pytest.raises(Unencodable, match="holds itself"):
        encode(own, LIMIT)
    with pytest.raises(BadBytes, match="deep"):
        decode(b"l\x01\x00\x00\x00" * (DEPTH + 1) + b"N")


def test_size() -> None:
    assert len(encode("x" * 95, 100)) == 100
    with pytest.raises(TooLarge):
        encode("x" * 96, 100)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"N" * 2, b"i\x01\x00\x00\x00", b"i\xff\xff\xff\xff\x00", b"s\x01\x00\x00\x00\xff",
     b"d\x01\x00\x00\x00l\x00\x00\x00\x00N", b"S\x02\x00\x00\x00NN", b"d\x02\x00\x00\x00TNTN",
     b"S\x02\x00\x00\x00Ti\x01\x00\x00\x00\x01", b"l\xff\xff\xff\xff", b"s\x03\x00\x00\x00\xed\xa0\x80"],
)  # fmt: skip
def test_forged_bytes(data: bytes) -> None:
    with pytest.raises(BadBytes):
        decode(data)


def test_a_frame() -> None:
    assert parse_frame(frame(VALUE, encode([1], LIMIT))) == (VALUE, [1])
    whole = frame(ERROR, encode(("a", "b", "c", "d"), LIMIT))
    assert parse_frame(whole) == (ERROR, ("a", "b", "c", "d"))
    wrong = [b"", whole[:-1], whole + whole, whole + b"x", b"\0" + whole[1:], frame(ERROR, encode(("a", "b"), LIMIT)),
             frame(ERROR, encode(("a", "b", "c", 4), LIMIT)), frame(b"?", b"N"), frame(VALUE, b"NN")]  # fmt: skip
    for data in wrong:
        with pytest.raises(BadBytes):
            parse_frame(data)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (1, True, False), (1, 1.0, False), ({1: 2}, {True: 2}, False), ({1}, {1.0}, False), ([1], (1,), False),
        (math.nan, math.nan, True), ([math.nan], [math.nan], True), (0.0, -0.0, True), ({1, 2}, {2, 1}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), (frozenset({1}), {1}, False), ("a", b"a", False),
        ([["a"], "b"], [["a", "b"]], False), ((), (), True), (complex(math.nan, 1), complex(math.nan, 1), True),
        (None, False, False), (10**50, 10**50, True), ([1, 2], [2, 1], False), ({(1, 2)}, {(1, True + 1)}, True),
    ],
)  # fmt: skip
def test_what_is_the_same(one: object, other: object, is_same: bool) -> None:
    assert same(one, other) is same(other, one) is is_same
