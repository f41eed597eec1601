"""Tokens that are computed once: found again, made anew where a file is damaged, and had without a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mltrain.data.text import token_cache
from mltrain.data.text.encoding import Texts, TokenSettings, encoded
from mltrain.data.text.token_cache import TokenArrays, token_arrays
from mltrain.data.text.tokenizers import train_wordpiece

FIRSTS = ["see you at home", "call me later today", "is dinner late", "okay"] * 5
SECONDS = ["yes", "no not now", "see you then", "call"] * 5
SETTINGS = TokenSettings(8)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_wordpiece([*FIRSTS, *SECONDS], 100, lowercase=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("MLTRAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokens"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was tokenised, and not read."""
    seen: list[Any] = []

    def note(*arguments: Any) -> Any:
        seen.append(arguments)
        return encoded(*arguments)

    monkeypatch.setattr(token_cache, "encoded", note)
    return seen


def as_lists(arrays: TokenArrays) -> list[tuple[list[int], list[int] | None]]:
    types = [arrays.types(index) for index in range(len(arrays))]
    return [(arrays.ids(i).tolist(), None if kind is None else kind.tolist()) for i, kind in enumerate(types)]


@pytest.mark.parametrize("pairs", [None, SECONDS], ids=["texts", "pairs"])
def test_tokens_are_the_tokenizers_own(tokenizer: Any, folder: Path, pairs: Any) -> None:
    arrays = token_arrays(Texts(FIRSTS, pairs), tokenizer, SETTINGS)
    expected = tokenizer(FIRSTS, pairs, truncation=True, max_length=8)
    assert [ids for ids, _ in as_lists(arrays)] == expected["input_ids"]
    assert [types for _, types in as_lists(arrays)] == (expected["token_type_ids"] if pairs else [None] * 20)
    whole = tokenizer(FIRSTS, pairs)["input_ids"]
    assert arrays.num_cut == sum(len(ids) > 8 for ids in whole)
    assert arrays.lengths.tolist() == [min(len(ids), 8) for ids in whole]


def test_the_second_time_they_are_read_from_a_mapped_file(tokenizer: Any, folder: Path, computed: list[Any]) -> None:
    first = token_arrays(Texts(FIRSTS), tokenizer, SETTINGS)
    assert len(computed) == 1
    again = token_arrays(Texts(FIRSTS), tokenizer, SETTINGS)
    assert len(computed) == 1
    assert as_lists(again) == as_lists(first)
    assert isinstance(again.ids(0), np.memmap)
    assert len(list(folder.glob("*.npy"))) == 1


def test_other_texts_settings_or_tokenizers_are_other_files(tokenizer: Any, folder: Path, computed: list[Any]) -> None:
    other = train_wordpiece(FIRSTS, 90, lowercase=True)
    asked = [
        (Texts(FIRSTS), tokenizer, SETTINGS),
        (Texts(FIRSTS[1:]), tokenizer, SETTINGS),
        (Texts([*FIRSTS[1:], FIRSTS[0]]), tokenizer, SETTINGS),
        (Texts(FIRSTS, FIRSTS), tokenizer, SETTINGS),
        (Texts(FIRSTS), tokenizer, TokenSettings(7)),
        (Texts(FIRSTS), tokenizer, TokenSettings(8, "only_first")),
        (Texts(FIRSTS), other, SETTINGS),
        (Texts(["ab", "c"]), tokenizer, SETTINGS),
        (Texts(["a", "bc"]), tokenizer, SETTINGS),
    ]
    for arguments in asked:
        token_arrays(*arguments)
    assert len(computed) == len(list(folder.glob("*.npy"))) == len(asked)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_a_damaged_file_is_made_anew(
    tokenizer: Any, folder: Path, computed: list[Any], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    sound = as_lists(token_arrays(Texts(FIRSTS), tokenizer, SETTINGS))
    (path,) = folder.glob("*.npy")
    content = path.read_bytes()
    flipped = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
    path.write_bytes({"flip": flipped, "cut": content[:-40], "empty": b"", "text": b"no numbers"}[damage])
    assert as_lists(token_arrays(Texts(FIRSTS), tokenizer, SETTINGS)) == sound
    assert len(computed) == 2
    assert "was damaged and is made anew" in caplog.text
    assert path.read_bytes() == content


def test_a_cache_that_cannot_be_used_is_done_without(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLTRAIN_CACHE", str(tmp_path / "file"))
    assert len(token_arrays(Texts(FIRSTS), tokenizer, SETTINGS)) == len(FIRSTS)
    assert "Tokens are not kept" in caplog.text
    monkeypatch.setattr(token_cache, "cache_folder", lambda: None)
    caplog.clear()
    assert len(token_arrays(Texts(FIRSTS), tokenizer, SETTINGS)) == len(FIRSTS)
    assert caplog.text == ""


_SCRIPT = """
import sys
from mltrain.data.text.encoding import Texts, TokenSettings
from mltrain.data.text.token_cache import token_arrays
from mltrain.data.text.tokenizers import train_wordpiece
texts = [f"message {number} of {number % 7} today" for number in range(3000)]
arrays = token_arrays(Texts(texts), train_wordpiece(texts[:50], 100, lowercase=True), TokenSettings(16))
print(int(arrays.lengths.sum()), arrays.num_cut)
"""


@pytest.mark.slow
def test_processes_that_ask_at_once_get_the_same(folder: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", _SCRIPT], env=dict(os.environ), stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in running}) == 1
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(list(folder.glob("*.npy"))) == 1
    assert not list(folder.glob("*.tmp"))
