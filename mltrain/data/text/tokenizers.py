"""Tokenizers: trained on a run's own texts, read from a folder or the hub, and as JSON values in a package.

A trained one is WordPiece (Schuster and Nakajima 2012; Devlin et al. 2019) as BERT uses it, and depends on nothing but
its texts: neither on the number of threads nor on the seeds of hash tables.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltrain.core.errors import ConfigError, DataError, shortened

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "load_tokenizer",
    "tokenizer_digest",
    "tokenizer_from_json",
    "tokenizer_to_json",
    "train_wordpiece",
]

_KEY = "model.tokenizer"
_PAD, _UNKNOWN, _CLS, _SEP, _MASK = _SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_INNER = "##"
# A pair of letters that stands in a single place of the training texts teaches nothing.
_MIN_FREQUENCY = 2
# The rarest letters beyond these are unknown: texts in thousands of signs would leave no room for words.
_LETTERS_SHARE = 0.25
_NAMED_TOKENS = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")


def train_wordpiece(
    texts: Iterable[str], vocab_size: int, *, lowercase: bool, single_digits: bool = False
) -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer of the words in some texts: [CLS] text [SEP], or [CLS] text [SEP] pair [SEP].

    Args:
        texts: of the training split alone. Their order does not matter.
        vocab_size: most entries of the vocabulary, special tokens and letters among them.
        lowercase: take upper case and accents off first.
        single_digits: each digit is a token, so that numbers of any length are made of ten.

    Raises:
        ConfigError: the vocabulary has no room for the special tokens and a letter.
        DataError: the texts have no words.
    """
    from tokenizers import trainers

    texts = list(texts)
    alike = partial(_untrained, lowercase=lowercase, single_digits=single_digits)
    raw = alike({token: number for number, token in enumerate(_SPECIAL)})
    letters = _letters(raw, texts, vocab_size)
    # The trainer numbers the letters within words as it meets them, and it meets words in the order of a hash table
    # with a random seed; ties between pairs are broken by number, so that even the set of entries differs from one
    # process to the next. Entries that are given count before those that are found.
    given = [*_SPECIAL, *(_INNER + letter for letter in letters)]
    raw.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=_MIN_FREQUENCY,
            special_tokens=given,
            initial_alphabet=letters,
            limit_alphabet=len(letters),
            show_progress=False,
        ),
    )
    return _wrapped(alike(raw.get_vocab()), dict(_special_names()))


def load_tokenizer(source: str, key: str = _KEY) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a folder that `save_pretrained` wrote, or of a hub name. No code is fetched.

    Args:
        source: the folder or name.
        key: the key of the configuration that names it.

    Raises:
        ConfigError: there is none, or none that gives the positions of tokens in the text, or it has no padding.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = Path(source).expanduser()
    found = path
    if path.is_dir():
        places = [place for place in (path, path / "model") if (place / "tokenizer.json").is_file()]
        found = places[0] if places else path
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(found) if path.is_dir() else source)
    except Exception as error:  # whatever a file, a network or a token may be wrong with
        fetch = "" if path.is_dir() else f", or where there is a network run `hf download {source} --local-dir FOLDER`"
        why = "it is no folder here, and the hub does not give it"
        if path.is_dir():
            why = f"its tokenizer.json cannot be used ({type(error).__name__}: {shortened(error, 200)})"
            if not (found / "tokenizer.json").is_file():
                why = "it has no tokenizer.json"
        raise ConfigError(
            f"{source} gives no tokenizer: {why}",
            where=key,
            fix=f"Name a folder that holds a sound tokenizer.json, or set model.tokenizer to wordpiece{fetch}.",
        ) from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ConfigError(
            f"the tokenizer of {source} is a {type(tokenizer).__name__}, which has no tokenizer.json",
            where=key,
            fix="Convert it to a fast tokenizer, or set model.tokenizer to wordpiece.",
        )
    if tokenizer.pad_token_id is None:
        raise ConfigError(f"the tokenizer of {source} has no padding token", where=key, fix="Name another.")
    return tokenizer


def tokenizer_to_json(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return JSON values that `tokenizer_from_json` takes. They do not depend on what was tokenized before."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content["truncation"] = content["padding"] = None  # left behind by the last call
    named = {name: str(token) for name in _NAMED_TOKENS if (token := getattr(tokenizer, name)) is not None}
    return {
        "tokenizer": content,
        "named_tokens": named,
        "input_names": list(tokenizer.model_input_names),
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
    }


def tokenizer_from_json(value: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """Return the tokenizer that `tokenizer_to_json` described."""
    from tokenizers import Tokenizer

    return _wrapped(
        Tokenizer.from_str(json.dumps(value["tokenizer"])),
        value["named_tokens"],
        model_input_names=list(value["input_names"]),
        padding_side=value["padding_side"],
        truncation_side=value["truncation_side"],
    )


def tokenizer_digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the sha256 of all that decides what a tokenizer gives."""
    content = json.dumps(tokenizer_to_json(tokenizer), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _letters(raw: Tokenizer, texts: list[str], vocab_size: int) -> list[str]:
    """Return the letters of the texts that the vocabulary has room for, the most frequent, in the order of Unicode."""
    counts: Counter[str] = Counter()
    for text in texts:
        normalized = raw.normalizer.normalize_str(text)
        counts.update(letter for letter in normalized if not letter.isspace())
    if not counts:
        raise DataError("the training texts have no words", where=_KEY, fix="Name the column that holds the texts.")
    room = int((vocab_size - len(_SPECIAL)) * _LETTERS_SHARE)
    if room < 1:
        raise ConfigError(
            f"is {vocab_size}, which leaves no room for words",
            where="model.vocab_size",
            fix="Set it to some hundreds at least.",
        )
    return sorted(sorted(counts, key=lambda letter: (-counts[letter], letter))[:room])


def _untrained(vocabulary: dict[str, int], *, lowercase: bool, single_digits: bool) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    raw = Tokenizer(models.WordPiece(vocabulary, unk_token=_UNKNOWN, continuing_subword_prefix=_INNER))
    raw.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    # A number, and a sign such as that of a currency, stands for itself: "won£5000now" has four parts. So what is said
    # of tokens can be said of words.
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.BertPreTokenizer(),
            pre_tokenizers.Digits(individual_digits=single_digits),
            pre_tokenizers.Split(Regex(r"[^\w\s]"), "isolated"),
        ]
    )
    raw.post_processor = processors.TemplateProcessing(
        single=f"{_CLS} $A {_SEP}",
        pair=f"{_CLS} $A {_SEP} $B:1 {_SEP}:1",
        special_tokens=[(token, vocabulary[token]) for token in (_CLS, _SEP)],
    )
    raw.decoder = decoders.WordPiece(prefix=_INNER)
    return raw


def _special_names() -> Iterable[tuple[str, str]]:
    return zip(_NAMED_TOKENS, _SPECIAL, strict=False)


def _wrapped(raw: Tokenizer, named_tokens: Mapping[str, str], **settings: Any) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    settings.setdefault("model_input_names", ["input_ids", "token_type_ids", "attention_mask"])
    return PreTrainedTokenizerFast(tokenizer_object=raw, **named_tokens, **settings)
