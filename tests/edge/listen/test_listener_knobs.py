"""Settings reach what the loop makes of them, and still do after another bundle took over or a slice is drawn."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from tests.edge.listen.test_listener import Home

from earmark_edge.decide import DecideConfig


@dataclass(frozen=True)
class Told:
    bundle_version: int = 7


class Passed:
    """Updates with a bundle that has passed its trial; the same graph again."""

    has_passed = True

    def __init__(self, scorer):
        self.scorer = scorer

    def swap(self):
        self.has_passed = False
        return SimpleNamespace(scorer=self.scorer, version=7)

    def feed(self, *_words, **_more):
        pass

    def reset(self, stream):
        pass

    def told(self):
        return Told()


def swapped(home, scorer):
    home.listener._updates = Passed(scorer)
    home.listener._swap_when_quiet()
    assert any("bundle 7" in line for line in home.got.lines)


def sliced(home, _scorer):
    home.got.probability = 0.5
    home.listener._slice_where_agreed()
    assert home.listener._is_slicing


def as_it_began(_home, _scorer):
    pass


@pytest.mark.parametrize("change", [as_it_began, swapped, sliced])
@pytest.mark.parametrize(("canary_s", "canaries"), [(0.0, 0), (30.0, 3), (60.0, 2)])
def test_canaries_come_as_often_as_set_and_deciding_is_as_set(scorer, tmp_path, play, change, canary_s, canaries):
    home = Home(scorer, tmp_path, config=DecideConfig(route_also=("shout",)), canary_s=canary_s)
    change(home, scorer)
    home.listener.channels[0].canary._sound = play(("scream", 2.4))
    home.hear(play(("", 100)), block=8_000)
    assert len(home.got.canaries) == canaries
    assert home.listener.status.streams[0].canary.every_s == canary_s
    home.hear(play(("shout", 2), ("", 10)), block=8_000)
    assert [each.label for each in home.detections] == ["shout"]


def test_the_status_is_written_as_often_as_set(scorer, tmp_path):
    home = Home(scorer, tmp_path, status_s=2.5)
    home.listener.tell_status()
    assert home.listener._next_status_s == home.time.now_s + 2.5
