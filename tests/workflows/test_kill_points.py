"""The moments of kills: in order, spread evenly, aimed at what the run does."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from mltrain.workflows.kill_points import draw_kill_points, earlier
from mltrain.workflows.run_watch import Sight, Timeline

TIMELINE = Timeline(start_s=4.0, train_s=10.0, total_s=13.0, saves=[0.1, 0.3, 0.2], validations=[1.0])
TRAINING = Sight("training", 5, staging=False, committed=False)


def test_moments_are_uniform_over_training() -> None:
    """Each share is one of what is left after the moment before; together they are sorted uniform draws."""
    deciles: Counter[int] = Counter()
    generator = random.Random(1)
    for _ in range(500):
        passed = 0.0
        for point in draw_kill_points(5, TIMELINE, generator):
            if point.aim not in ("evaluation", "start"):
                passed += point.share * (1.0 - passed)
                deciles[int(passed * 10)] += 1
    assert sum(deciles.values()) == 2000
    assert all(150 < deciles[decile] < 250 for decile in range(10)), deciles


def test_the_evaluation_comes_last_and_the_seed_decides() -> None:
    points = draw_kill_points(12, TIMELINE, random.Random(7))
    assert points == draw_kill_points(12, TIMELINE, random.Random(7))
    assert points != draw_kill_points(12, TIMELINE, random.Random(8))
    assert [point.aim for point in points].count("evaluation") == 1
    assert points[-1].aim == "evaluation"
    assert {point.aim for point in points} == {"moment", "save", "commit", "validation", "evaluation", "start"}
    assert len(draw_kill_points(200, TIMELINE, random.Random(7))) == 200


def test_delays_stay_within_what_is_aimed_at() -> None:
    longest = {"moment": 0.0, "save": 0.2, "commit": 0.005, "validation": 1.0, "evaluation": 3.0, "start": 4.0}
    points = draw_kill_points(400, TIMELINE, random.Random(3))
    for aim, limit in longest.items():
        delays = [point.delay for point in points if point.aim == aim]
        assert limit / 2 <= max(delays) <= limit, aim


def test_what_the_run_never_did_is_not_aimed_at() -> None:
    plain = replace(TIMELINE, saves=[], validations=[])
    assert {point.aim for point in draw_kill_points(50, plain, random.Random(3))} == {"moment", "evaluation", "start"}


@pytest.mark.parametrize(
    ("aim", "sight"),
    [
        ("moment", TRAINING),
        ("save", replace(TRAINING, staging=True)),
        ("commit", replace(TRAINING, committed=True)),
        ("validation", replace(TRAINING, phase="validating")),
        ("evaluation", replace(TRAINING, phase="evaluating")),
        ("start", Sight("starting", 0, staging=False, committed=False)),
    ],
)
def test_an_aim_is_seen_when_it_comes_and_not_before_its_time(aim: str, sight: Sight) -> None:
    drawn = draw_kill_points(50, TIMELINE, random.Random(3))
    point = next(point for point in drawn if point.aim == aim)
    others = [TRAINING, Sight("starting", 0, staging=False, committed=False)]
    assert point.is_seen(sight, point.share)
    assert not any(point.is_seen(other, point.share) for other in others if other != sight and aim != "moment")
    assert point.share == 0.0 or not point.is_seen(sight, point.share * 0.99)


def test_a_point_that_came_too_late_comes_earlier() -> None:
    generator = random.Random(5)
    for point in draw_kill_points(30, TIMELINE, generator):
        again = earlier(point, generator)
        assert again.aim == point.aim
        assert again.share <= point.share
        assert again.delay <= point.delay
