"""Classes that are probably one are told; others never."""

from __future__ import annotations

from mltrain.data.class_names import alike_classes


def test_names_that_differ_in_case_blanks_or_the_form_of_characters() -> None:
    assert alike_classes(["Ants", "bees", "ants", "e\u0301", "\xe9", "house fly", "housefly"]) == [
        "The classes 'Ants', 'ants' look alike and are learned as 2. If they are one, give them one name.",
        "The classes 'e\u0301', '\xe9' look alike and are learned as 2. If they are one, give them one name.",
        "The classes 'house fly', 'housefly' look alike and are learned as 2. If they are one, give them one name.",
    ]


def test_other_names_are_not_told() -> None:
    assert alike_classes(["1", "01", "1.0", "ant", "ants", "a-b", "a_b"]) == []
