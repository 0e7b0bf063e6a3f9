import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark_edge.ring import AudioRing


@given(st.integers(1, 50), st.lists(st.integers(0, 50), max_size=20))
def test_what_was_heard_last_can_be_cut_out_again(capacity, sizes):
    ring, stream = AudioRing(capacity), np.zeros(0, np.float32)
    for size in sizes:
        part = np.arange(len(stream), len(stream) + min(size, capacity), dtype=np.float32)
        ring.append(part)
        stream = np.concatenate([stream, part])
    assert ring.end == len(stream)
    oldest = max(0, len(stream) - capacity)
    np.testing.assert_array_equal(ring.cut(oldest, len(stream)), stream[oldest:])
    middle = (oldest + len(stream)) // 2
    np.testing.assert_array_equal(ring.cut(oldest, middle), stream[oldest:middle])


def test_a_cut_is_a_copy():
    ring = AudioRing(10)
    ring.append(np.ones(10, np.float32))
    kept = ring.cut(0, 10)
    ring.wipe()
    assert kept.tolist() == [1.0] * 10


def test_wiping_leaves_no_audio_behind():
    ring = AudioRing(10)
    ring.append(np.ones(10, np.float32))
    ring.wipe()
    assert ring.end == 0
    assert not ring._samples.any()


def test_asking_for_what_was_overwritten_is_a_bug_of_ours():
    ring = AudioRing(10)
    ring.append(np.ones(8, np.float32))
    ring.append(np.ones(8, np.float32))
    with pytest.raises(AssertionError):
        ring.cut(5, 16)
    with pytest.raises(AssertionError):
        ring.append(np.ones(11, np.float32))
