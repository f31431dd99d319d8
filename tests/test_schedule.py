"""Learning rates, row orders and seeds: functions of their arguments alone."""

import math
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.config import Budget, Optim, Training
from heedful.schedule import learning_rate, order, planned, stable_seed, step_rows


def rates(*progress, **optim):
    return [learning_rate(Optim(**{"lr": 1.0, "warmup": 0.2, **optim}), p) for p in progress]


def test_the_learning_rate_rises_linearly_over_the_warmup():
    assert rates(0.0, 0.05, 0.1, 0.2) == pytest.approx([0.0, 0.25, 0.5, 1.0])


def test_linear_decay_ends_at_zero():
    assert rates(0.2, 0.6, 1.0) == pytest.approx([1.0, 0.5, 0.0])


def test_cosine_decay_is_slow_at_both_ends():
    assert rates(0.2, 0.4, 0.6, 0.8, 1.0, decay="cosine") == pytest.approx(
        [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0]
    )


def test_a_constant_rate_stays():
    assert rates(0.2, 0.6, 1.0, decay="constant") == [1.0, 1.0, 1.0]


def test_final_is_what_is_left_at_the_end():
    assert rates(0.6, 1.0, final=0.1) == pytest.approx([0.55, 0.1])


def test_without_warmup_the_first_step_has_the_full_rate():
    assert rates(0.0, warmup=0.0) == [1.0]


def test_past_the_end_the_rate_stays_at_its_last_value():
    assert rates(1.5, final=0.1) == pytest.approx([0.1])


@given(
    progress=st.floats(0, 1),
    warmup=st.floats(0, 0.99),
    final=st.floats(0, 1),
    decay=st.sampled_from(["linear", "cosine", "constant"]),
)
def test_the_rate_never_leaves_zero_to_lr(progress, warmup, final, decay):
    (rate,) = rates(progress, warmup=warmup, final=final, decay=decay)
    assert 0 <= rate <= 1 + 1e-12


# Orders


def test_an_order_depends_on_seed_round_and_epoch_and_on_nothing_else():
    def drawn(**changes):
        return order(50, **{"seed": 0, "round_index": 0, "epoch": 0, **changes}).tolist()

    assert drawn() == drawn()
    assert len({tuple(o) for o in (drawn(), drawn(seed=1), drawn(round_index=1), drawn(epoch=1))}) == 4


def test_an_order_is_the_same_in_every_version():
    assert order(8, seed=1, round_index=2, epoch=3).tolist() == [4, 2, 6, 5, 1, 3, 7, 0]


@given(size=st.integers(1, 30), batch_size=st.integers(1, 40), epochs=st.integers(1, 3))
def test_each_epoch_shows_every_row_once(size, batch_size, epochs):
    step = min(batch_size, size)
    num_steps = math.ceil(epochs * size / step)
    seen = [
        row
        for index in range(num_steps)
        for row in step_rows(range(size), batch_size, seed=0, round_index=0, index=index)
    ]
    assert len(seen) == num_steps * step
    for epoch in range(epochs):
        assert sorted(seen[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_a_step_in_the_middle_needs_no_step_before_it():
    rows = [step_rows(range(10), 4, seed=0, round_index=0, index=index) for index in range(6)]
    assert step_rows(range(10), 4, seed=0, round_index=0, index=5) == rows[5]
    assert len(rows[2]) == 4  # filled from the next epoch
    assert Counter(row for step in rows[:5] for row in step) == Counter(dict.fromkeys(range(10), 2))


def test_fewer_rows_than_a_step_make_the_step_smaller():
    assert sorted(step_rows("abc", 64, seed=0, round_index=0, index=7)) == ["a", "b", "c"]


# Seeds


def test_a_seed_is_the_same_in_every_process():
    assert stable_seed(0, "a") == 8617095791668180470


def test_parts_of_a_seed_do_not_run_together():
    assert stable_seed("ab", "c") != stable_seed("a", "bc")
    assert stable_seed(1, 23) != stable_seed(12, 3)


@given(st.integers(), st.text())
def test_a_seed_fits_a_signed_64_bit_integer(number, word):
    assert 0 <= stable_seed(number, word) < 2**63


@dataclass(frozen=True)
class Counted:
    name: int
    num_tokens: int = 10


@pytest.mark.parametrize(
    ("budget", "epochs", "steps"),
    [
        ({"steps": 2}, None, [4, 4]),
        ({"tokens": 81}, None, [4, 4, 1]),
        ({"tokens": 95}, None, [4, 4, 1, 1]),  # a step that has no room for its second row, then one with room for none
        ({"epochs": 0.5}, None, [4, 4, 4]),
        ({}, 3, [4, 4, 4, 4, 4]),
    ],
)
def test_planned_rows_are_those_of_the_steps_a_budget_has_room_for(budget, epochs, steps):
    rows, training = [Counted(n) for n in range(20)], Training(batch_size=4, seed=7, budget=Budget(**budget))
    found = planned(rows, training=training, epochs=epochs)
    assert found == [
        row for index, size in enumerate(steps) for row in step_rows(rows, 4, seed=7, round_index=0, index=index)[:size]
    ]


def test_all_rows_are_planned_where_nobody_knows_how_many_a_budget_has_room_for():
    rows = [Counted(n) for n in range(20)]
    assert planned(rows, training=Training(batch_size=4, budget=Budget(seconds=1)), epochs=None) == rows
