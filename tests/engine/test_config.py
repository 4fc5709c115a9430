"""Facts about configuration: YAML 1.2, places, strictness, overrides."""

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from engine.config import Config, apply_override, dump_yaml, parse_source, read_source, validate
from engine.errors import ConfigError


class Inner(Config):
    lr: float = Field(1e-6, gt=0)
    steps: int = Field(10, ge=1)
    on: bool = False
    schedule: Literal["constant", "cosine"] = "constant"


class Outer(Config):
    name: str
    trainer: Inner = Inner()
    stop: list[str] = []
    lora: Inner | None = None
    layers: list[Inner] = []


def check(text: str, *overrides: str) -> Outer:
    source = parse_source(text, "x.yaml")
    for override in overrides:
        apply_override(source, override)
    return validate(Outer, source)


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        check(text, *overrides)
    return str(refused.value)


def test_numbers_are_those_of_yaml_1_2() -> None:
    data = parse_source("a: 1e-6\nb: 010\nc: no\nd: 12:30\ne: 0o17\nf: .5\ng: 1_0", "x.yaml").data
    assert data == {"a": 1e-6, "b": 10, "c": "no", "d": "12:30", "e": 15, "f": 0.5, "g": data["g"]}
    assert [type(data[key]) for key in "abcdef"] == [float, int, str, str, int, float]


def test_exponents_without_a_dot_reach_a_float_field() -> None:
    assert check("name: x\ntrainer: {lr: 1e-5}").trainer.lr == 1e-5
    assert check("name: x", "trainer.lr=1e-5").trainer.lr == 1e-5


def test_a_misspelt_key_is_refused_with_place_and_nearest_name() -> None:
    message = refusal("name: x\ntrainer:\n  stpes: 3\n")
    assert message.startswith("x.yaml:3:10 at trainer.stpes: unknown key 'stpes'. Did you mean 'steps'?")
    assert "lr, on, schedule, steps" in message


def test_a_misspelt_key_inside_an_optional_section_or_a_list_is_named_too() -> None:
    assert "Did you mean 'steps'?" in refusal("name: x\nlora: {stpes: 3}")
    assert "x.yaml:2:22 at layers.1.stpes" in refusal("name: x\nlayers: [{}, {stpes: 3}]")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name: x\ntrainer: {steps: many}", "x.yaml:2:18 at trainer.steps: 'many'"),
        ("name: x\ntrainer: {steps: 0}", "greater than or equal to 1"),
        ("name: x\ntrainer: {steps: 2.5}", "2.5"),
        ("name: x\ntrainer: {lr: .nan}", "finite"),
        ("name: x\ntrainer: {schedule: cosin}", "Did you mean 'cosine'?"),
        ("name: 5", "x.yaml:1:7 at name: 5"),
        ("trainer: {steps: 3}", "the key is missing"),
        ("name: x\ntrainer: 5", "x.yaml:2:10 at trainer: 5"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(text: str, part: str) -> None:
    assert part in refusal(text)


@pytest.mark.parametrize("value", ["'yes'", "1", "0", "'False'", "on"])
def test_a_flag_is_true_or_false_and_nothing_that_looks_like_it(value: str) -> None:
    assert "at trainer.on" in refusal(f"name: x\ntrainer: {{on: {value}}}")


@pytest.mark.parametrize("value", ["'5'", "true", "5.0"])
def test_an_integer_is_an_integer(value: str) -> None:
    assert "at trainer.steps" in refusal(f"name: x\ntrainer: {{steps: {value}}}")


def test_an_integer_is_good_enough_for_a_float() -> None:
    assert check("name: x\ntrainer: {lr: 1}").trainer.lr == 1.0


def test_all_faults_are_told_at_once() -> None:
    message = refusal("trainer: {steps: 0, lr: -1}")
    assert all(part in message for part in ("at name", "at trainer.steps", "at trainer.lr"))


def test_a_duplicate_key_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml:2:1.*duplicate key"):
        parse_source("name: x\nname: y\n", "x.yaml")


@pytest.mark.parametrize(
    "text", ["a: [1", "a: 'x", "\tb: 1", "a: b: c", "a: *nowhere", "%YAML 9", "a: !!python/object:x 1"]
)
def test_what_is_not_yaml_is_refused_with_line_and_column(text: str) -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml(:\d+:\d+)?"):
        check("name: x\n" + text)


@pytest.mark.parametrize("text", ["- 1\n- 2", "just words", "5"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="mapping"):
        parse_source(text, "x.yaml")


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert parse_source("", "x.yaml").data == {}


def test_overrides_win_over_the_file_and_are_named_as_the_place() -> None:
    assert check("name: x\ntrainer: {steps: 3}", "trainer.steps=20").trainer.steps == 20
    assert refusal("name: x\ntrainer: {steps: 3}", "trainer.steps=0").startswith("override trainer.steps=0")


def test_the_place_of_a_fault_inside_an_overridden_section_is_the_override() -> None:
    assert refusal("name: x", "trainer={steps: 0}").startswith("override trainer={steps: 0}")


def test_an_override_makes_the_sections_it_needs() -> None:
    assert check("name: x", "lora.steps=4").lora == Inner(steps=4)
    assert check("name: x\nlora: null", "lora.steps=4").lora == Inner(steps=4)


def test_an_override_reaches_into_a_list() -> None:
    assert check("name: x\nlayers: [{}, {}]", "layers.1.steps=7").layers[1].steps == 7


@pytest.mark.parametrize(
    "override", ["steps", "=3", "a..b=3", ".a=3", "name.x=3", "trainer.steps=[1", "layers.x.steps=3"]
)
def test_a_malformed_override_is_refused(override: str) -> None:
    assert "override" in refusal("name: x\nlayers: [{}]", override)


def test_a_missing_or_unreadable_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_source(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="directory"):
        read_source(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_source(tmp_path / "latin.yaml")


def test_control_characters_are_refused_as_not_yaml() -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        parse_source("a: \x00", "x.yaml")


def test_dates_tags_aliases_and_merges_become_plain_values() -> None:
    text = "a: 2026-01-02\nb: !custom 5\nc: &x [1, 2]\nd: *x\ne: &y {k: 1}\nf: {<<: *y, l: 2}\n1: one\n"
    data = parse_source(text, "x.yaml").data
    assert data == {
        "a": "2026-01-02", "b": "5", "c": [1, 2], "d": [1, 2], "e": {"k": 1}, "f": {"k": 1, "l": 2}, "1": "one"
    }  # fmt: skip


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="recursion"):
        parse_source("a: " + "[" * 5000, "x.yaml")


@pytest.mark.parametrize("text", ["a: 2026-13-45", "a: 1e999999", "a: 0x"])
def test_odd_scalars_are_read_or_refused_but_never_crash(text: str) -> None:
    try:
        parse_source(text, "x.yaml")
    except ConfigError as error:
        assert "x.yaml" in str(error)


letters = st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"))
keys = st.text("abcxyz", min_size=1)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(letters, max_size=20)
)
plain = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(keys, plain, max_size=4))
def test_what_is_dumped_reads_back_the_same(data: dict[str, Any]) -> None:
    assert parse_source(dump_yaml(data), "x.yaml").data == data
