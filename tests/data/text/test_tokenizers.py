"""Tokenizers: trained to the same byte everywhere, as JSON and back, and refused where they cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mltrain.core.errors import ConfigError, DataError
from mltrain.data.text.encoding import Texts, TokenSettings, encoded
from mltrain.data.text.tokenizers import (
    load_tokenizer,
    tokenizer_digest,
    tokenizer_from_json,
    tokenizer_to_json,
    train_wordpiece,
)

SAID = "see you at home later today with the dinner call me on my phone number when it is not too late okay"
TEXTS = [f"{SAID[place:]} {SAID[: place * 3]} £{place * 37}!" for place in range(0, len(SAID), 5)]
_SCRIPT = """
import sys, json
from mltrain.data.text.tokenizers import tokenizer_to_json, train_wordpiece
texts = json.load(open(sys.argv[1]))
print(json.dumps(tokenizer_to_json(train_wordpiece(texts, 120, lowercase=True))))
"""


def trained(texts: list[str] = TEXTS, size: int = 120, **options: bool) -> Any:
    return train_wordpiece(texts, size, **{"lowercase": True, **options})


def test_training_again_gives_the_same_bytes() -> None:
    """The library's own trainer gives another vocabulary each time: its hash tables are seeded at random."""
    found = {tokenizer_digest(trained()) for _ in range(5)}
    assert len(found) == 1
    assert found == {tokenizer_digest(trained(TEXTS[::-1]))}, "the order of the texts does not matter"
    assert found != {tokenizer_digest(trained([*TEXTS, "quite other words", "quite other words"]))}


def test_the_librarys_own_trainer_would_not() -> None:
    """Shows why the letters within words are given: once this fails, they need not be."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    found = set()
    for _ in range(8):
        raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        raw.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=120, show_progress=False))
        found.add(json.dumps(raw.get_vocab(), sort_keys=True))
    assert len(found) > 1


@pytest.mark.slow
def test_fresh_processes_with_other_seeds_and_threads_train_the_same(tmp_path: Path) -> None:
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(TEXTS))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(file)],
            env={**os.environ, "PYTHONHASHSEED": str(number), "RAYON_NUM_THREADS": str(1 + number % 2)},
            stdout=subprocess.PIPE,
        )
        for number in range(4)
    ]
    printed = {process.communicate()[0] for process in running}
    assert len(printed) == 1
    assert json.loads(printed.pop()) == tokenizer_to_json(trained())


def test_numbers_and_signs_stand_for_themselves() -> None:
    tokenizer = trained([*TEXTS, "won 5000 now"] * 3, 300)
    text = "Won£5000now!"
    encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    words = [text[first:last] for first, last in encoding["offset_mapping"]]
    assert "".join(words) == text
    borders = {first for first, _ in encoding["offset_mapping"]}
    assert {0, 3, 4, 8, 11} <= borders
    single = trained([*TEXTS, "won 5000 now"] * 3, 300, single_digits=True)
    assert single.tokenize("5000") == ["5", "0", "0", "0"]


def test_pairs_are_as_berts() -> None:
    encoding = trained()("see you", "later")
    tokens = trained().convert_ids_to_tokens(encoding["input_ids"])
    assert tokens == ["[CLS]", "see", "you", "[SEP]", "later", "[SEP]"]
    assert encoding["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    assert trained().convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_case_is_kept_where_it_is_wanted() -> None:
    texts = ["Home home HOME"] * 9
    assert trained(texts).tokenize("HOME") == ["home"]
    assert trained(texts, lowercase=False).tokenize("HOME Home") == ["HOME", "Home"]


def test_a_small_vocabulary_keeps_the_most_frequent_letters() -> None:
    """Of letters that are too many for it, those left out are unknown; the others still make words."""
    signs = [chr(0x4E00 + number) for number in range(500)]
    texts = ["home and away"] * 50 + ["".join(signs)]
    tokenizer = trained(texts, 100)
    assert len(tokenizer) <= 100
    assert tokenizer.tokenize("home") == ["home"]
    assert tokenizer.tokenize(signs[-1]) == ["[UNK]"]
    assert tokenizer_digest(tokenizer) == tokenizer_digest(trained(texts, 100))


def test_json_and_back_and_a_folder_and_back(tmp_path: Path) -> None:
    tokenizer = trained()
    digest = tokenizer_digest(tokenizer)
    text = "call me at £37, Déjà vu"
    for other in (
        tokenizer_from_json(json.loads(json.dumps(tokenizer_to_json(tokenizer)))),
        _saved(tokenizer, tmp_path),
    ):
        assert tokenizer_digest(other) == digest
        assert other(text) == tokenizer(text)
        assert (other.pad_token_id, other.cls_token, other.mask_token) == (0, "[CLS]", "[MASK]")


def _saved(tokenizer: Any, folder: Path) -> Any:
    tokenizer.save_pretrained(str(folder))
    return load_tokenizer(str(folder))


def test_what_was_tokenised_before_changes_nothing() -> None:
    tokenizer = trained()
    before = tokenizer_digest(tokenizer)
    tokenizer(["see you", "later"], padding=True, truncation=True, max_length=4)
    assert tokenizer_digest(tokenizer) == before
    list(encoded(Texts(["see you at home"]), tokenizer, TokenSettings(4)))
    assert len(tokenizer("see you at home")["input_ids"]) == 6


@pytest.mark.parametrize("settings", [TokenSettings(16), TokenSettings(8), TokenSettings(8, "only_first")], ids=str)
def test_pairs_are_cut_as_transformers_cuts_them(settings: TokenSettings) -> None:
    tokenizer = trained()
    first, second = "see you at home later today", "call me"
    (tokens,) = encoded(Texts([first], [second]), tokenizer, settings)
    reference = tokenizer(first, second, truncation=settings.truncation, max_length=settings.max_length)
    assert (tokens.ids, tokens.types) == (reference["input_ids"], reference["token_type_ids"])
    assert tokens.cut == (settings.max_length < len(tokenizer(first, second)["input_ids"]))


def test_a_pair_that_cannot_be_cut_as_asked_is_told() -> None:
    with pytest.raises(DataError, match=r"data.truncation: a pair cannot be cut to 6 tokens"):
        list(encoded(Texts(["see you at home later today"], ["call me"]), trained(), TokenSettings(6, "only_second")))


def test_texts_without_words_are_refused() -> None:
    with pytest.raises(DataError, match="the training texts have no words"):
        trained(["  ", "\n"])


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.tokenizer: .* gives no tokenizer"):
        load_tokenizer(str(tmp_path))


def test_a_damaged_tokenizer_is_told_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"its tokenizer.json cannot be used \(KeyError: 'added_tokens'\)"):
        load_tokenizer(str(tmp_path))
