"""Windows of long contexts: held against slices by hand; and the places of tokens in texts of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.core.errors import ConfigError, DataError
from mltrain.data.text.answers import NO_ANSWER, locate_answers, trimmed
from mltrain.data.text.tokenizers import train_wordpiece
from mltrain.data.text.windows import Windows, cut_windows

TEXTS = ["What is the price?", "call 08712 now or 1000 later", "won a prize of £500, claim it", "Ünïcödé İstanbul"] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_wordpiece(TEXTS, 200, lowercase=True)


@pytest.fixture(scope="module")
def bytewise() -> Any:
    """A tokenizer of bytes, as RoBERTa's: a token may be a part of a letter, and counts the blank before it."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing
    from transformers import PreTrainedTokenizerFast

    raw = ByteLevelBPETokenizer()
    raw.train_from_iterator(TEXTS, vocab_size=300, special_tokens=["<s>", "</s>", "<pad>"], show_progress=False)
    raw._tokenizer.post_processor = RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw._tokenizer, pad_token="<pad>", cls_token="<s>", sep_token="</s>"
    )


def cut(tokenizer: Any, contexts: list[str], questions: list[str] | None, max_length: int, stride: int) -> Windows:
    return cut_windows(
        tokenizer, contexts, questions, max_length=max_length, stride=stride, place=lambda row: f"table.csv:{row + 2}"
    )


def by_hand(context: list[int], room: int, stride: int) -> list[list[int]]:
    """Return the slices of a context: each shares `stride` tokens with the one before, the last ends it."""
    found = [context[:room]]
    begin = 0
    while begin + room < len(context):
        begin += room - stride
        found.append(context[begin : begin + room])
    return found


@pytest.mark.parametrize("with_question", [True, False])
@settings(max_examples=25, deadline=None)
@given(
    words=st.lists(st.sampled_from(["call", "08712", "£500", "now", "Prize", "ünï"]), max_size=40),
    room=st.integers(2, 12),
    overlap=st.integers(0, 11),
)
def test_windows_are_the_slices_by_hand(
    with_question: bool, words: list[str], room: int, overlap: int, tokenizer: Any
) -> None:
    stride, context = min(overlap, room - 1), " ".join(words)
    question = "what price"
    ids = tokenizer(context, add_special_tokens=False)["input_ids"]
    asked = tokenizer(question, add_special_tokens=False)["input_ids"] if with_question else []
    begin, separator = tokenizer.cls_token_id, tokenizer.sep_token_id
    head = [begin, *asked, separator] if with_question else [begin]
    windows = cut(
        tokenizer, [context], [question] if with_question else None, max_length=len(head) + room + 1, stride=stride
    )
    found = [windows.input_ids[tokens].tolist() for tokens in windows.of_row(0)]
    assert found == [[*head, *part, separator] for part in by_hand(ids, room, stride)]
    assert windows.lengths().tolist() == [sum(map(len, found))]


@given(
    contexts=st.lists(
        st.text(
            st.characters(codec="utf-8") | st.sampled_from(list("aZ09 \n\t£İßﬁé\u0301😀\u200d\u00a0")), max_size=60
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=20, deadline=None)
def test_every_token_names_characters_of_the_original_text_in_order(
    contexts: list[str], tokenizer: Any, bytewise: Any
) -> None:
    for used in (tokenizer, bytewise):
        windows = cut(used, contexts, None, max_length=16, stride=5)
        assert len(windows) == len(contexts)
        for row, context in enumerate(contexts):
            for tokens in windows.of_row(row):
                offsets = windows.offsets[tokens]
                assert offsets[0].tolist() == offsets[-1].tolist() == [0, 0]
                inside = offsets[offsets[:, 1] > 0]
                assert (inside[:, 0] < inside[:, 1]).all()
                assert (inside <= len(context)).all()
                assert (np.diff(inside[:, 0]) >= 0).all()


@pytest.mark.parametrize("name", ["tokenizer", "bytewise"])
@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("won £500, claim", "£500"),
        ("WON  a\n\n  PRIZE  ", "PRIZE"),
        ("İstanbul, İzmir 08712", "08712"),
        ("😀😀 call 😀 1000 ", "1000"),
        ("e\u0301te\u0301 1000\u00a0now", "1000"),
        ("one\r\ntwo\tthree", "two\tthree"),
        ("08712", "08712"),
    ],
)
def test_an_answer_goes_to_tokens_and_back(name: str, context: str, answer: str, request: Any) -> None:
    tokenizer = request.getfixturevalue(name)
    begin = context.index(answer)
    span = (begin, begin + len(answer))
    windows = cut(tokenizer, [context], ["what"], max_length=64, stride=8)
    answers = locate_answers(windows, [span])
    (first, last), (tokens,) = answers.targets[0].tolist(), windows.of_row(0)
    offsets = windows.offsets[tokens]
    assert trimmed(context, int(offsets[first, 0]), int(offsets[last, 1])) == span
    assert not answers.cut


def test_a_window_that_cuts_an_answer_does_not_hold_it(tokenizer: Any) -> None:
    context = "call call call 08712 08712 now now now now"
    begin = context.index("08712 08712")
    ids = tokenizer(context, add_special_tokens=False)["input_ids"]
    length = len(tokenizer("08712 08712", add_special_tokens=False)["input_ids"])
    windows = cut(tokenizer, [context, context], None, max_length=2 + length + 1, stride=length)
    answers = locate_answers(windows, [(begin, begin + 11), NO_ANSWER])
    held = [target for target in answers.targets.tolist() if target != [0, 0]]
    assert 1 <= len(held) <= 2
    assert all(last - first + 1 == length for first, last in held)
    assert (answers.longest, answers.cut, len(ids) > length + 1) == (length, [], True)
    short = cut(tokenizer, [context], None, max_length=2 + length - 1, stride=0)
    assert locate_answers(short, [(begin, begin + 11)]).cut == [0]


def test_answers_within_a_token_are_told(tokenizer: Any) -> None:
    windows = cut(tokenizer, ["call now"], None, max_length=16, stride=2)
    assert locate_answers(windows, [(0, 4)]).uneven == []
    assert locate_answers(windows, [(1, 4)]).uneven == [0]


def test_a_context_without_tokens_has_a_window(tokenizer: Any) -> None:
    windows = cut(tokenizer, ["", "call", " \n"], ["what"] * 3, max_length=16, stride=2)
    assert [len(windows.of_row(row)) for row in range(3)] == [1, 1, 1]
    assert windows.offsets[windows.of_row(2)[0]].sum() == 0


def test_no_room_for_the_context_is_told_before_anything(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.stride: is 30, and a window of 32 tokens has room for 29"):
        cut(tokenizer, ["call"], ["what"], max_length=32, stride=30)
    with pytest.raises(DataError, match=r"table\.csv:3: the question has \d+ tokens; a window of 32 has no room"):
        cut(tokenizer, ["call", "call"], ["what", "what price " * 14], max_length=32, stride=4)
