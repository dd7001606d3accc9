import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.studies.time_to_quality import Range, as_good_from, courses, geometric_mean, middle, trajectory

STEPS = (250, 500, 1_000, 2_000)


def curve(*scores):
    return dict(zip(STEPS, scores, strict=False))


def test_a_score_half_way_in_log_steps_is_reached_at_the_geometric_mean_of_the_steps():
    assert as_good_from(curve(80.0, 60.0, 20.0), 40.0).low == pytest.approx(500 * math.sqrt(2))


def test_a_score_met_at_a_checkpoint_is_reached_there():
    assert as_good_from(curve(80.0, 60.0, 20.0), 60.0) == Range(500, 500)


def test_what_lies_before_the_first_or_beyond_the_last_score_is_a_bound():
    assert as_good_from(curve(80.0, 60.0, 20.0), 10.0) == Range(1_000, math.inf)
    assert as_good_from(curve(80.0, 60.0, 20.0), 90.0) == Range(0, 250)


def test_a_lucky_checkpoint_does_not_count():
    lucky = as_good_from(curve(80.0, 30.0, 60.0, 20.0), 40.0)
    assert 1_000 < lucky.low == lucky.high < 2_000


def test_a_diverged_run_reaches_nothing():
    assert as_good_from(curve(80.0, 30.0, math.nan), 40.0).high == math.inf


@settings(max_examples=50, deadline=None)
@given(st.floats(0.2, 0.99) | st.floats(1, 5))
def test_a_power_law_run_at_another_pace_is_that_much_sooner_as_good(pace):
    many = range(10, 2_000, 10)
    reference = {step: -math.log(step) for step in many}
    faster = {step: -math.log(pace * step) for step in many}
    found = courses({"zero": [reference] * 2, "other": [faster] * 2}, "zero")["other"]
    if pace >= 1:
        assert found.speed_up is not None and found.speed_up.value == pytest.approx(pace, rel=1e-9)
    else:
        assert found.speed_up is None
        assert all(ratio == Range(0, 1) for ratio in found.speed_ups)


ZERO = [curve(90.0, 60.0, 40.0, 30.0), curve(94.0, 61.0, 43.0, 33.0), curve(88.0, 59.0, 38.0, 28.0)]


def moved(*changes):
    """The reference's curves, each step changed by so much, and a little noise of each seed's own."""
    noise = (0.1, -0.1, 0.0)
    return [
        {s: v + d + e for (s, v), d in zip(seed.items(), changes, strict=True)}
        for seed, e in zip(ZERO, noise, strict=True)
    ]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ((-20, -15, -10, -8), "ahead throughout"),
        ((20, 15, 10, 8), "behind throughout"),
        ((0, 0, 0, 0), "no difference seen"),
        ((-20, -15, -10, 0), "ahead from step 250 to 1,000, not distinguishable at the end"),
        ((0, 0, -10, -8), "ahead from step 1,000 to the end"),
        ((0, 12, 0, 0), "behind at step 500, not distinguishable at the end"),
        ((0, 0, 0, -8), "ahead at the end"),
        ((-20, 0, -10, -8), "ahead at step 250, ahead from step 1,000 to the end"),
        (
            (-20, -15, 0, 8),
            "crosses between step 500 and 2,000: ahead from step 250 to 500, behind at the end",
        ),
    ],
)
def test_the_crossing_test_says_who_is_ahead_from_when_to_when(changes, verdict):
    assert courses({"zero": ZERO, "other": moved(*changes)}, "zero")["other"].verdict == verdict


def test_two_crossings_are_both_named():
    text = trajectory({1: -1, 2: 1, 3: 1, 4: -1})
    assert text.startswith("crosses between step 1 and 2 and between step 3 and 4: ahead at step 1, behind")


def test_more_steps_and_more_schemes_widen_the_band():
    short = {
        name: [{250: seed[250]} for seed in seeds] for name, seeds in {"zero": ZERO, "a": moved(1, 1, 1, 1)}.items()
    }
    one = courses(short, "zero")["a"].gaps[250]
    all_steps = courses({"zero": ZERO, "a": moved(1, 1, 1, 1)}, "zero")["a"].gaps[250]
    two = courses({"zero": ZERO, "a": moved(1, 1, 1, 1), "b": ZERO}, "zero")["a"].gaps[250]
    # t(1 - 0.05 / 2m, 2) for m = 1, 4, 8, from its closed form for two degrees of freedom
    quantiles = [(2 * u**2 / (0.25 - u**2)) ** 0.5 for u in (0.5 - 0.025 / m for m in (1, 4, 8))]
    widths = [gap.high - gap.low for gap in (one, all_steps, two)]
    assert widths == pytest.approx([2 * q * 0.1 / math.sqrt(3) for q in quantiles])


def test_steps_that_one_run_lacks_are_left_out_for_all():
    unscored = [{step: value for step, value in seed.items() if step != 500} for seed in moved(-5, -5, -5, -5)]
    assert list(courses({"zero": ZERO, "other": unscored}, "zero")["other"].gaps) == [250, 1_000, 2_000]


def test_a_seed_that_never_gets_there_is_kept_as_a_bound():
    slow = moved(-10, -10, -10, -10)
    slow[1] = {step: value + 30 for step, value in slow[1].items()}
    found = courses({"zero": ZERO, "other": slow}, "zero")["other"]
    assert found.speed_up is None
    assert found.reached[1] == Range(2_000, math.inf) and found.speed_ups[1] == Range(0, 1)
    assert middle(found.speed_ups).known and 1 < middle(found.speed_ups).low == min(
        found.speed_ups[0].low, found.speed_ups[2].low
    )


def test_the_median_of_bounds_holds_every_median_that_they_allow():
    assert middle([Range(0, 250), Range(400, 400), Range(1_000, math.inf)]) == Range(400, 400)
    assert middle([Range(0, 250), Range(1_000, math.inf), Range(1_000, math.inf)]) == Range(1_000, math.inf)


def test_the_speed_up_is_the_geometric_mean():
    found = geometric_mean([Range(1, 1), Range(2, 2), Range(4, 4)], 0.95)
    half = 4.3026527297 * math.log(2) / math.sqrt(3)  # t(0.975, 2) from a printed table
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 * math.exp(-half), 2 * math.exp(half)))
