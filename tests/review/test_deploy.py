"""The unit, the container file and the compose file: hardened, and about what exists."""

from __future__ import annotations

import re
from pathlib import Path

from tests.units import NEEDS_SYSTEMD, assert_exposure_at_most

from earmark_review.settings import ReviewSettings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "earmark-review.service"


@NEEDS_SYSTEMD
def test_the_units_exposure_is_at_most_one_and_a_half():
    assert_exposure_at_most(UNIT, 15)


def test_the_unit_keeps_what_is_opened_in_memory():
    lines = set(UNIT.read_text().splitlines())
    assert {"MemorySwapMax=0", "LimitCORE=0", "StateDirectory=earmark-review", "UMask=0077"} <= lines
    assert "ExecStart=/opt/earmark/bin/earmark review serve" in lines


def test_every_setting_that_the_files_name_exists():
    named = {
        name
        for path in (UNIT, DEPLOY / "review.Containerfile", DEPLOY / "compose.yaml")
        for name in re.findall(r"EARMARK_REVIEW_(\w+)", path.read_text())
    }
    assert len(named) >= 5
    assert {name.lower() for name in named} <= set(ReviewSettings.model_fields)


def test_the_container_runs_the_service_as_nobody_in_particular_with_a_driver_for_postgresql():
    text = (DEPLOY / "review.Containerfile").read_text()
    for word in (".[cluster]", "USER earmark-review", '"review"]', 'CMD ["serve"]'):
        assert word in text


def test_cases_and_keys_are_kept_apart_and_nothing_listens_beyond_the_machine():
    text = (DEPLOY / "compose.yaml").read_text()
    assert text.count("127.0.0.1:8600:8600") == text.count("ports:") == 1
    assert {"@cases/earmark", "@keys/earmark"} <= set(re.findall(r"@\w+/earmark", text))
    for word in ("read_only: true", "cap_drop: [ALL]", "no-new-privileges:true", "memswap_limit"):
        assert word in text
