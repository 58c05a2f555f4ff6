"""The predictor of the lossless mode solves the equations it states, in integers that cannot overflow."""

import numpy as np

from flowcodec.runtime.least_squares import INPUT_MAX, WEIGHT_BITS, LeastSquares

RNG = np.random.default_rng(3)


def walked(count: int, fronts: int, height: int, draw) -> tuple[LeastSquares, np.ndarray]:  # type: ignore[no-untyped-def]
    """A predictor after fronts of all rows, and the last errors of its three predictions."""
    squares = LeastSquares(1, height, np.zeros(count, np.int32))
    errors = np.zeros(0)
    rows = slice(0, height)
    for start in range(1, height):
        squares.predict(slice(0, start + 1), np.zeros((count, 1, start + 1)))
    for _ in range(fronts):
        inputs, targets = draw((count, 1, height))
        errors = targets - squares.predict(rows, inputs)
        squares.learn(rows, inputs, targets, errors[1].astype(np.int32))
    return squares, errors


def test_finds_the_weights_of_a_linear_source() -> None:
    weights = np.array([0.5, -1.25, 2.0, 0.0, 0.75])

    def draw(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        inputs = np.rint(RNG.normal(size=shape) * 1000)
        return inputs, np.rint(np.einsum("n,ntr->tr", weights, inputs)).astype(np.int32)

    squares, errors = walked(5, 120, 6, draw)
    assert np.abs(squares._weights[..., -1] / (1 << WEIGHT_BITS) - weights[:, None]).max() < 0.1
    assert np.abs(errors[0]).mean() < 100 and np.abs(errors[2]).mean() > 1000


def test_a_new_row_begins_as_the_one_above_is() -> None:
    squares, _ = walked(3, 20, 4, lambda shape: (np.full(shape, 300.0), np.full(shape[1:], 900, np.int32)))
    for array in (squares._weights, squares._slow, squares._covariance, squares._products):
        array[..., 3] = 0
    squares._begun = 3
    squares.predict(slice(0, 4), np.zeros((3, 1, 4)))
    assert np.array_equal(squares._covariance[..., 3], squares._covariance[..., 2])
    assert squares._covariance[..., 3].any()


def test_statistics_stay_in_their_type() -> None:
    """The largest inputs for as long as it takes to forget: the bounds of the format hold."""
    signs = RNG.choice([-1, 1], (30, 1, 3))

    def draw(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        inputs = np.zeros(shape)
        inputs[0] = INPUT_MAX  # one large input among small ones weighs most
        inputs[1:] = signs[1:]
        return inputs, np.full(shape[1:], 0xFFFF, np.int32)

    squares, _ = walked(30, 150, 3, draw)
    assert squares._covariance[0, 0].min() > 0 and squares._covariance.max() < 1 << 30
    assert squares._products[0].min() > 0 and squares._products.max() < 1 << 30
    assert np.array_equal(squares._weights, np.floor(squares._weights))
