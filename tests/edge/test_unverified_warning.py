"""What a screen says of thresholds without a guarantee."""

from __future__ import annotations

from dataclasses import replace

from earmark_edge.settings import default_bundle
from earmark_edge.unverified import unverified_warning
from earmark_model.contract import Guarantee, Threshold, read_bundle

SPEC = replace(read_bundle(default_bundle()), triage=None)
BARE = replace(SPEC, thresholds={label: Threshold(each.value) for label, each in SPEC.thresholds.items()})
PROMISE = Guarantee(0.05, 0.1, 100, 0, "f" * 64)


def test_without_any_guarantee_nothing_is_promised() -> None:
    said = unverified_warning(BARE)
    assert said == "warning: unverified thresholds for scream, cry, baby_cry: no guarantee bounds how many are missed"
    assert unverified_warning(replace(BARE, triage=Threshold(1.0))) == said


def test_a_guarantee_of_triage_is_told_beside_what_it_does_not_cover() -> None:
    said = unverified_warning(replace(BARE, triage=Threshold(1.0, PROMISE)))
    assert "no guarantee bounds how many of each alone are missed" in said
    assert "at most 5% are missed, with 90% confidence" in said


def test_where_every_sensitive_label_carries_one_nothing_is_said() -> None:
    kept = {label: Threshold(each.value, PROMISE) for label, each in SPEC.thresholds.items()}
    assert unverified_warning(replace(SPEC, thresholds=kept)) == ""
