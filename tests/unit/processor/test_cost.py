"""What a run costs, fitted online."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondemand.processor.cost import CostModel


def test_nothing_is_known_before_the_first_run():
    """A worker that has not run yet must not refuse anyone for what it guesses."""
    assert CostModel().seconds(100) == 0.0


@given(
    st.floats(0, 0.1), st.floats(0, 0.01), st.lists(st.integers(1, 256), min_size=20, max_size=60)
)
def test_a_linear_cost_is_found(per_call, per_row, batches):
    """Whatever the sizes of the batches, the prediction for what was seen is right."""
    cost = CostModel()
    for rows in batches:
        cost.learn(rows=rows, seconds=per_call + per_row * rows)

    for rows in batches:
        assert cost.seconds(rows) == pytest.approx(per_call + per_row * rows, rel=1e-3, abs=1e-6)


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 10)), min_size=1, max_size=80))
def test_no_coefficient_is_ever_negative(runs):
    """Noise must not promise that a larger batch is faster, or that a run takes no time at all."""
    cost = CostModel()
    for rows, seconds in runs:
        cost.learn(rows=rows, seconds=seconds)
    per_call, per_row = cost.coefficients()

    assert per_call >= -1e-9
    assert per_row >= 0


def test_a_computer_that_became_slower_is_noticed():
    """The last runs decide: two hundred slow ones outweigh a thousand fast ones before."""
    cost = CostModel()
    for i in range(1000):
        cost.learn(rows=1 + i % 8, seconds=0.001)
    for i in range(200):
        cost.learn(rows=1 + i % 8, seconds=0.1)

    assert cost.seconds(4) == pytest.approx(0.1, rel=0.05)
