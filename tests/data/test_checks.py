import numpy as np
import pytest

from miseg.data.checks import BadFileError, check_labels, check_mask, encode_png
from miseg.data.samples import DataSetInfo

COLOURS = ((0, 0, 0), (9, 0, 0), (0, 9, 0))
NUMBERED = DataSetInfo("numbered", ("a", "b", "c"), COLOURS, ignore_values=(0, 1, 2, 200), label_values=(7, 5, 30))


def test_the_publisher_s_numbers_become_labels():
    values = np.array([[7, 5, 30], [0, 2, 200]], np.uint8)
    labels = check_labels(values, NUMBERED)
    assert labels.dtype == np.uint8 and labels.tolist() == [[0, 1, 2], [255, 255, 255]]
    assert np.array_equal(check_mask(encode_png(values), NUMBERED), labels)


@pytest.mark.parametrize("value", [3, 6, 31, 255])
def test_a_number_that_is_none_of_the_publisher_s(value):
    reason = (
        rf"label {value} is outside 5, 7, 30 and 0\.\.2, 200 \(unlabelled\): .* map it to 0; .*renumbered to 0\.\.2,"
    )
    with pytest.raises(BadFileError, match=reason):
        check_labels(np.array([[7, value]], np.uint8), NUMBERED)


def test_one_number_for_each_class():
    with pytest.raises(ValueError, match="numbered: 2 label values for 3 classes"):
        DataSetInfo("numbered", ("a", "b", "c"), COLOURS, label_values=(7, 5))
