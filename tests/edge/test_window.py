import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark_edge import window as window_module
from earmark_edge.window import Windower

WINDOW, HOP = 32_000, 8_000


def windows_of(samples, chunks=(), window_samples=WINDOW, hop_samples=HOP):
    windower = Windower(window_samples, hop_samples)
    found = [window for part in np.split(samples, sorted(chunks)) for window in windower.feed(part)]
    return found + windower.flush()


def layout(windows):
    return [(window.start, window.valid) for window in windows]


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, [(0, 1)]),
        (WINDOW - 1, [(0, WINDOW - 1)]),
        (WINDOW, [(0, WINDOW)]),
        (WINDOW + 1, [(0, WINDOW), (HOP, WINDOW - HOP + 1)]),
        (WINDOW + HOP - 1, [(0, WINDOW), (HOP, WINDOW - 1)]),
        (WINDOW + HOP, [(0, WINDOW), (HOP, WINDOW)]),
        (WINDOW + HOP + 1, [(0, WINDOW), (HOP, WINDOW), (2 * HOP, WINDOW - HOP + 1)]),
    ],
)
def test_golden_windows_at_the_boundaries(length, expected):
    assert layout(windows_of(np.ones(length, np.float32))) == expected


def test_an_empty_stream_has_no_window():
    assert windows_of(np.zeros(0, np.float32)) == []


def test_the_tail_is_padded_with_zeros_and_nothing_else():
    samples = np.arange(1, WINDOW + 100, dtype=np.float32)
    tail = windows_of(samples)[-1]
    np.testing.assert_array_equal(tail.samples[: tail.valid], samples[tail.start :])
    assert not tail.samples[tail.valid :].any()
    assert tail.end == len(samples)


@given(st.data(), st.integers(1, 60), st.integers(1, 60), st.integers(0, 400))
def test_any_chunking_gives_the_same_windows_and_every_sample_is_in_one(data, window_samples, hop_samples, length):
    window_samples, hop_samples = max(window_samples, hop_samples), min(window_samples, hop_samples)
    samples = np.arange(1, length + 1, dtype=np.float32)
    chunks = data.draw(st.lists(st.integers(0, length), max_size=12))
    whole = windows_of(samples, (), window_samples, hop_samples)
    parts = windows_of(samples, chunks, window_samples, hop_samples)
    assert layout(parts) == layout(whole)
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
    heard = {int(sample) for window in whole for sample in window.samples[: window.valid]}
    assert heard == set(range(1, length + 1))
    assert all(window.valid == window_samples for window in whole[:-1])
    assert len({window.end for window in whole}) == len(whole)  # no window over samples that the one before had already


def test_a_windower_is_as_new_after_flush_and_after_reset():
    windower = Windower(WINDOW, HOP)
    windower.feed(np.ones(50_000, np.float32))
    windower.flush()
    assert layout(windower.feed(np.ones(WINDOW, np.float32))) == [(0, WINDOW)]
    windower.reset()
    assert windower.flush() == []


@pytest.mark.parametrize(("window_samples", "hop_samples"), [(10, 11), (10, 0), (0, 0)])
def test_a_hop_that_leaves_gaps_is_an_error(window_samples, hop_samples):
    with pytest.raises(ValueError, match="would leave gaps"):
        Windower(window_samples, hop_samples)


def test_windows_do_not_hold_on_to_the_chunks_they_came_from():
    chunk = np.ones(WINDOW + HOP, np.float32)
    windower = Windower(WINDOW, HOP)
    window = windower.feed(chunk)[0]
    chunk[:] = 7
    assert window.samples.max() == 1
    assert windower.flush() == []


def test_the_worked_example_holds():
    results = doctest.testmod(window_module, extraglobs={"np": np})
    assert (results.failed, results.attempted) == (0, 3)
