"""Rows in fewer bytes: what they hold, what they cost, what they cannot hold."""

import numpy as np
import pytest

from ctr_tf.export.quantisation import largest_errors, packed, row_bytes, stored_dtype, unpacked
from ctr_tf.export.self_check import ExportError


def scales(rows):
    return rows[:, -2:].copy().view("float16")


def test_an_int8_row_is_its_values_over_their_scale_and_the_scale():
    # 63.5 / 127 is 0.5, and a scale of 2**-9 times 127 is 0.248...
    rows = np.array([[63.5, -0.5, 0.2, 30.3], [127 / 512, 0, -1 / 512, 5 / 1024]], "float32")
    found = packed("item_id", rows, "int8")
    assert found.dtype == np.int8 and found.shape == (2, 6)
    np.testing.assert_array_equal(scales(found), [[0.5], [2**-9]])
    # Halves go to the even number.
    np.testing.assert_array_equal(found[:, :4], [[127, -1, 0, 61], [127, 0, -1, 2]])
    np.testing.assert_array_equal(
        unpacked(found).numpy(), [[63.5, -0.5, 0, 30.5], [127 / 512, 0, -1 / 512, 1 / 256]]
    )


@pytest.mark.parametrize("magnitude", [1e-9, 1e-6, 1e-5, 0.01, 1.0, 1000.0, 8e6])
def test_no_value_is_cut_off_and_none_is_off_by_more_than_half_a_step(magnitude):
    rng = np.random.default_rng(1)
    rows = rng.uniform(-magnitude, magnitude, (5000, 16)).astype("float32")
    found = packed("item_id", rows, "int8")
    scale = scales(found).astype("float64")
    exact = np.abs(rows).max(axis=1, keepdims=True).astype("float64") / 127
    # Rounded up: by a step of float16 at most.
    assert (scale >= exact * (1 - 1e-6)).all()
    assert (scale <= exact * (1 + 2**-10) + 2**-24).all()
    errors = np.abs(unpacked(found).numpy().astype("float64") - rows)
    assert (errors <= scale / 2 * (1 + 1e-4)).all()
    assert (errors <= largest_errors(rows, "int8")).all()
    if magnitude > 1e-4:
        tight = errors.max(axis=1, keepdims=True) > largest_errors(rows, "int8") / 4
        assert tight.mean() > 0.9
    if magnitude < 65504:
        halves = packed("item_id", rows, "float16").astype("float64")
        assert (np.abs(halves - rows) <= largest_errors(rows, "float16")).all()


def test_a_row_of_zeros():
    np.testing.assert_array_equal(packed("item_id", np.zeros((1, 3)), "int8"), [[0] * 5])
    np.testing.assert_array_equal(unpacked(np.zeros((1, 5), "int8")), [[0.0] * 3])


@pytest.mark.parametrize(
    "dtype, value, said",
    [("float16", 7e4, "70000"), ("int8", 1e7, "1e+07"), ("int8", np.nan, "nan")],
)
def test_what_a_type_cannot_hold_is_an_error(dtype, value, said):
    rows = np.array([[1.0, 2.0], [0.0, value]], "float32")
    with pytest.raises(ExportError) as error:
        packed("item_id", rows, dtype)
    assert str(error.value) == f"table 'item_id': {dtype} cannot hold a value of magnitude {said}"


def test_bytes_of_a_row():
    assert [row_bytes(dtype, 16) for dtype in ("float32", "float16", "int8")] == [64, 32, 18]
    assert all(row_bytes("float32", w) >= 3.5 * row_bytes("int8", w) for w in range(16, 1025))
    assert [stored_dtype("float32", "float32", w) for w in (1, 16)] == ["float32"] * 2
    assert [stored_dtype("float16", "float32", w) for w in (1, 16)] == ["float16"] * 2
    assert [stored_dtype("int8", "bfloat16", w) for w in (2, 3)] == ["bfloat16", "int8"]
