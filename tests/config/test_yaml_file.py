"""The dialect of YAML that configurations are written in: values, lines of keys, what is refused, the way back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.config.yaml_file import dump_yaml, parse_value, read_yaml
from mltrain.core.errors import ConfigError


def read(text: str | bytes) -> tuple[dict[str, Any], dict[Any, int]]:
    path = Path("x.yaml")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


def refused(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as raised:
        read(text)
    assert len(raised.value.problems) == 1
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("+1.5e+3", 1500.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e-1", -0.05),
        ("1_000", 1000),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-7", -7),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("False", False),
        ("yes", True),
        ("off", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("[1, 2e0, a]", [1, 2.0, "a"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        # Texts that YAML 1.1 or Python would take for something else:
        ("2024-01-01", "2024-01-01"),
        ("2001-99-99", "2001-99-99"),
        ("1:30", "1:30"),
        ("nan", "nan"),
        ("e5", "e5"),
        ("1e", "1e"),
        ("0x", "0x"),
        ("0b_", "0b_"),
        ("._", "._"),
        ("\uff13", "\uff13"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("1.2.3", "1.2.3"),
        ("y", "y"),
        ("=", "="),
    ],
)
def test_values(text: str, value: Any) -> None:
    for given_value in (parse_value(text), read(f"a: {text}\n")[0]["a"]):
        assert given_value == value
        assert type(given_value) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(parse_value(".nan"))


def test_a_value_of_the_command_line_is_taken_as_it_stands() -> None:
    assert parse_value("run #3") == "run #3"
    assert parse_value("  spaces ") == "spaces"
    assert parse_value("a=b") == "a=b"


def test_lines_of_keys() -> None:
    content, lines = read("# first\na: 1\nb:\n  c: [x,\n    y]\n  d: {e: 2}\n")
    assert content == {"a": 1, "b": {"c": ["x", "y"], "d": {"e": 2}}}
    assert lines == {
        ("a",): 2,
        ("b",): 3,
        ("b", "c"): 4,
        ("b", "c", 0): 4,
        ("b", "c", 1): 5,
        ("b", "d"): 6,
        ("b", "d", "e"): 6,
    }


def test_keys_are_texts_as_written() -> None:
    assert read("1: a\ntrue: b\nnull: c\n1e-3: d\n")[0] == {"1": "a", "true": "b", "null": "c", "1e-3": "d"}


def test_anchors_and_merges() -> None:
    content, lines = read("base: &b {x: 1, y: 2}\none:\n  <<: *b\n  y: 3\ntwo: {<<: [{x: 5}, *b], z: *b}\n")
    assert content["one"] == {"x": 1, "y": 3}
    assert content["two"] == {"x": 5, "y": 2, "z": {"x": 1, "y": 2}}
    assert lines["one", "y"] == 4


@pytest.mark.parametrize("head", [b"\xef\xbb\xbf", b"\n\n"], ids=["byte order mark", "blank lines"])
def test_what_may_stand_before_the_first_key(head: bytes) -> None:
    assert read(head + "näme: 🐝\n".encode())[0] == {"näme": "🐝"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a stands here and in line 1. Keep one of them."),
        ("a:\n  b: 1\n  b: 2\n", 3, "a.b stands here and in line 2"),
        ("a: {1: x, '1': y}\n", 1, "a.1 stands here and in line 1"),
        ("a:\n\tb: 1\n", 2, "a tab: indent with spaces"),
        ("a: 1\n---\nb: 2\n", 2, "a second document"),
        ("a: 1\nb: {c: 3\n", 2, "opened here is not closed"),
        ("a: 1\nb: 'c\nd: 1\n", 2, "a quote that is opened here"),
        ("a: b: c\n", 1, "a colon too many"),
        ("a: 1\n  b: 2\n", 2, "a colon too many"),
        ("a:\n  b: 1\n c: 2\n", 3, "the indentation fits no line above"),
        ("a: @x\n", 1, "must stand in quotes"),
        ("a: *x\n", 1, "undefined alias"),
        ("a: 1\nb: &x\n  c: *x\n", 2, "an anchor that contains itself"),
        ("a: 1\n[1, 2]: 3\n", 2, "a key must be a text"),
        ("a: 1\n{b: c}: 3\n", 2, "a key must be a text"),
        ("a: {<<: 3}\n", 1, "<< takes an anchor"),
        ("a: 1\nb: !!python/object:os.system 1\n", 2, "cannot be read as !!python/object:os.system"),
        ("a: !mine 1\n", 1, "cannot be read as !mine"),
        ("a: !!int x\n", 1, "cannot be read as !!int"),
        ("a: !!float x\n", 1, "cannot be read as !!float"),
        ("a: !!bool x\n", 1, "cannot be read as !!bool"),
        ("a: !!set {b, c}\n", 1, "cannot be read as !!set"),
        ("a: !!binary aGk=\n", 1, "cannot be read as !!binary"),
        ("a: !!timestamp 2020-01-01\n", 1, "cannot be read as !!timestamp"),
        ("a: <<\n", 1, "cannot be read as !!merge"),
        (f"a: 1\nb: {'9' * 5000}\n", 2, "a number of 5000 digits"),
        (f"a: {'[' * 1200}\n", 1, "nested too deeply"),
        ("a: 1\nb: x\0y\n", 2, "holds the character 0x0000"),
        (b"a: 1\nb: \xe9\n", 2, "not a UTF-8 text"),
        (b"\xff\xfea\x00", 1, "not a UTF-8 text"),
    ],
)
def test_what_is_refused_with_its_line(text: str | bytes, line: int, words: str) -> None:
    message = refused(text)
    assert message.startswith(f"x.yaml:{line}: ")
    assert words in message


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "a\n", "null\n", "[a: 1]\n", "3\n"])
def test_a_file_that_holds_no_keys(text: str) -> None:
    assert refused(text) == "x.yaml: must hold keys and values. Start from a file of configs/."


def test_a_file_that_multiplies_itself_is_refused_soon() -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 100,000 keys" in refused("\n".join(["l0: &l0 {a: 1}", *levels]))


def test_files_that_cannot_be_read() -> None:
    with pytest.raises(ConfigError, match=r"^no\.yaml: no such file\. Check --config\.$"):
        read_yaml(Path("no.yaml"))
    with pytest.raises(ConfigError, match=r"^\.: cannot be read \(Is a directory\)"):
        read_yaml(Path())
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(Path("a\0b"))


@pytest.mark.parametrize(
    "text", ["[1", "{a", "'x", "@x", "*x", "!!python/name:os.system", "&a [*a]", "\0", "{a: 1, a: 2}"]
)
def test_values_that_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_value(text)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.sampled_from(
        ["1e-3", "010", "1:30", "2024-01-01", "0x1F", "yes", "~", "", "=", "<<", ".5", "1_0", "- a", "a: b"]
    )
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_what_is_dumped_reads_back_equal_by_us_and_by_others(content: dict[str, Any]) -> None:
    text = dump_yaml(content)
    assert list(read(text)[0]) == list(content)
    assert repr(read(text)[0]) == repr(content)  # types as well as values
    assert repr(yaml.safe_load(text)) == repr(content)
