import numpy as np
import pytest

from miseg.data.loading.order import augmentation_generator, budget_subset, draw


@pytest.mark.parametrize("order", ["shuffle", "replacement"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_any_slice_is_part_of_the_whole(order, size):
    whole = draw(0, 5000, size, 3, order)
    assert whole.dtype == np.int64 and whole.min() >= 0 and whole.max() == size - 1
    for start, stop in ((0, 0), (0, 1), (6, 8), (1023, 1026), (1024, 2048), (13, 4999)):
        assert np.array_equal(draw(start, stop, size, 3, order), whole[start:stop])


def test_every_image_once_an_epoch_in_a_new_order():
    epochs = draw(0, 50, 10, 0, "shuffle").reshape(5, 10)
    assert (np.sort(epochs, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_draws_with_replacement_are_uniform_and_independent():
    draws = draw(0, 50_000, 10, 0, "replacement")
    counts = np.bincount(draws)
    assert counts.min() > 4700 and counts.max() < 5300
    assert np.mean(draws[1:] == draws[:-1]) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("order", ["shuffle", "replacement"])
def test_seeds_differ(order):
    assert not np.array_equal(draw(0, 100, 50, 0, order), draw(0, 100, 50, 1, order))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0, 1, 0, 0, "shuffle"), "size = 0"),
        ((2, 1, 5, 0, "shuffle"), r"positions \[2, 1\)"),
        ((-1, 1, 5, 0, "shuffle"), r"positions \[-1, 1\)"),
        ((0, 1, 5, 0, "sorted"), "order = 'sorted': use 'shuffle' or 'replacement'"),
    ],
)
def test_bad_arguments(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        draw(*arguments)


def test_budgets_are_nested_and_seeded():
    small, large = budget_subset(100, 10, 0), budget_subset(100, 30, 0)
    assert len(small) == 10 and set(small) < set(large) and (np.diff(large) > 0).all()
    assert set(budget_subset(100, 10, 1)) != set(small)
    assert budget_subset(5, 5, 0).tolist() == [0, 1, 2, 3, 4]
    for budget in (0, 6):
        with pytest.raises(ValueError, match=f"labelled_images = {budget}: the split has 5 images"):
            budget_subset(5, budget, 0)


def test_augmentation_depends_on_seed_and_position_only():
    numbers = {(s, p): augmentation_generator(s, p).random() for s in range(3) for p in range(50)}
    assert len(set(numbers.values())) == 150
    assert augmentation_generator(2, 7).random() == numbers[2, 7]
