"""Simulated short messages, honest ones and bait, with the words that the sender is after marked in the bait."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from mltrain.core.seeding import SampleGenerator, stream_key
from mltrain.data.examples.output_file import write_new_text

__all__ = ["draw_messages", "write"]

_COUNT = 3000
_SEED = 7
_BAIT_SHARE = 0.4
_WRONG_LABELS = 0.02
_TYPOS = 0.3
_LOWER_CASE = 0.3
_GREETED, _FOLLOWED = 0.35, 0.45

# {slots} are drawn; what stands in <> is the evidence. Both kinds have sums, codes and numbers, so that none of these
# alone says which it is.
_BAIT = (
    "You have won {sum} in our {month} draw! Call <{phone}> to claim.",
    "URGENT: your {firm} account is locked. Reply with your PIN to <{short}>.",
    "Final notice: a parcel with {sum} customs duty is held. Pay at <{link}> today.",
    "Congratulations {name}, you were chosen for a free {thing}. Text {word} to <{short}>.",
    "Hi, this is {firm}. We owe you {sum}. Confirm your card at <{link}> within {hours} hours.",
    "Mum, my phone broke, this is my new number. Please send <{sum}> to my friend {name} now, I explain later.",
    "Earn {sum} a week from home, no questions asked. Ring <{phone}> and ask for {name}.",
    "Your {firm} reward of {points} points ends at {time}. Collect: <{link}>",
    "{name} sent you a private photo. See it for {sum} at <{link}>",
    "Loan of {sum} approved without any check. Send <{code}> to {short} to accept.",
    "Last chance to win a {thing}, answer now!",
    "Lonely in town? {name} wants to meet you tonight, just reply.",
)
_HONEST = (
    "Your {firm} parcel comes today between {time} and {time}. The code for the locker is {code}.",
    "I owe you {sum} for dinner, what is your account?",
    "Can you call {name} at {phone}? She has tried all day.",
    "Train is late again, home at {time} I think.",
    "The {thing} was {sum} in the end, not bad at all.",
    "Did you see the photos on {link}? {name} put them up.",
    "Gate code is {code}, ring if it does not open.",
    "Reminder: your appointment is on {day} at {time}. To change it call {phone}.",
    "{name} won the quiz again, {points} points!",
    "Happy birthday {name}! See you on {day}.",
    "Please bring milk and bread, I send you {sum} tonight.",
    "Your {firm} bill for {month} is {sum}. It is taken from your account as usual.",
    "No worries, the meeting is moved to {day} {time}.",
    "New number, it's {name}: {phone}. Text me when you get this.",
)
_GREETINGS = ("Hi {name},", "Hey,", "ok so", "Dear customer,", "Hello {name}!", "btw", "FYI:")
_ENDINGS = ("Thanks, {name}", "xx", "See you!", "Reply STOP to end.", "Call me.", "lol", "Best wishes, {firm}")

_NAMES = ("Anna", "Ben", "Chidi", "Dora", "Emre", "Fatima", "George", "Hana", "Ivan", "Julia", "Kofi", "Lena", "Mika")
_FIRMS = ("Northbank", "ParcelGo", "Telvio", "Mobilix", "Cityrail", "Homeshop", "Greenlight")
_THINGS = ("phone", "tablet", "bicycle", "holiday", "camera", "watch", "concert ticket", "sofa")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "March", "May", "July", "September", "November")
_WORDS = ("WIN", "YES", "GO", "PLAY", "CLAIM")

_SLOT = re.compile(r"\{(\w+)\}")


def write(output: Path) -> str:
    """Write 3,000 messages drawn from templates: text, label (ham or spam), evidence and its characters [start, end).

    The evidence is what a spam message wants to be called, visited, sent or paid: "" and -1 where there is none. Ham
    and spam share sums, codes, numbers and greetings, three messages in ten have typing errors, and 2 % have the wrong
    label, so that no model is right in all of them. The same rows are written everywhere, always.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["text", "label", "evidence", "evidence_start", "evidence_end"])
    rows = draw_messages(_COUNT, _SEED)
    lines.writerows(rows)
    path = output / "messages.csv"
    write_new_text(path, text.getvalue())
    return f"{len(rows)} messages in {path}"


def draw_messages(count: int, seed: int) -> list[tuple[str, str, str, int, int]]:
    """Return rows of text, label, evidence, start and end, that depend on the seed alone."""
    draw = SampleGenerator(stream_key(seed, "example messages"))
    return [_message(draw) for _ in range(count)]


def _message(draw: SampleGenerator) -> tuple[str, str, str, int, int]:
    is_bait = draw.random() < _BAIT_SHARE
    parts = [_one(draw, _BAIT if is_bait else _HONEST)]
    if draw.random() < _GREETED:
        parts.insert(0, _one(draw, _GREETINGS))
    if draw.random() < _FOLLOWED:
        parts.append(_one(draw, _ENDINGS))
    before, _, rest = _filled(draw, " ".join(parts)).partition("<")
    evidence, _, after = rest.partition(">")
    if draw.random() < _TYPOS:
        before, after = _with_typos(draw, before), _with_typos(draw, after)
    if draw.random() < _LOWER_CASE:
        before, evidence, after = before.lower(), evidence.lower(), after.lower()
    label = is_bait != (draw.random() < _WRONG_LABELS)
    start, end = (len(before), len(before) + len(evidence)) if evidence else (-1, -1)
    return before + evidence + after, "spam" if label else "ham", evidence, start, end


def _filled(draw: SampleGenerator, template: str) -> str:
    return _SLOT.sub(lambda slot: _value(draw, slot.group(1)), template)


def _value(draw: SampleGenerator, slot: str) -> str:
    """Return something for a slot of a template."""
    lists = {"name": _NAMES, "firm": _FIRMS, "thing": _THINGS, "day": _DAYS, "month": _MONTHS, "word": _WORDS}
    if slot in lists:
        return _one(draw, lists[slot])
    number = draw.below(1_000_000_000)
    return {
        "sum": f"£{number % 990 + 10}" if number % 3 else f"{number % 4990 + 10} pounds",
        "phone": f"07{number:09d}",
        "short": f"8{number % 10_000:04d}",
        "code": f"{number % 9000 + 1000}",
        "link": f"www.{_one(draw, _FIRMS).lower()}-{number % 97}.example",
        "points": f"{number % 50 + 3}",
        "hours": f"{(12, 24, 48)[number % 3]}",
        "time": f"{number % 14 + 7}:{number % 4 * 15:02d}",
    }[slot]


def _with_typos(draw: SampleGenerator, text: str) -> str:
    """Return a text in which about every tenth word of letters has one exchanged, lost or doubled."""
    words = text.split(" ")
    for place, word in enumerate(words):
        if len(word) > 3 and word.isalpha() and draw.below(10) == 0:
            at = 1 + draw.below(len(word) - 2)
            first, second = word[at], word[at + 1]
            kind = draw.below(3)
            words[place] = word[:at] + (second + first, second, first + first + second)[kind] + word[at + 2 :]
    return " ".join(words)


def _one(draw: SampleGenerator, choices: Sequence[str]) -> str:
    return choices[draw.below(len(choices))]
