"""What a screen reader finds on a case's page: the accessibility tree as Chromium computes it."""

from __future__ import annotations

# ruff: noqa: F401, F811 - imported fixtures
import re

import pytest
from tests.review.test_browser import browser, claim_next, page, pytestmark, server, sign_in, two_cases, until

CONTROLS = {
    "button",
    "checkbox",
    "combobox",
    "DisclosureTriangle",
    "link",
    "menuitem",
    "radio",
    "slider",
    "spinbutton",
    "switch",
    "tab",
    "textbox",
}
PICTURES = {"image", "img", "graphics-document", "Audio", "Video", "Canvas"}
NAMED_PARTS = {"dialog", "navigation", "region", "complementary"}


def tree(page):
    """Role, name and description of every node that is not ignored, in the order in which they are read."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    by_id = {node["nodeId"]: node for node in nodes}
    read, waiting = [], [nodes[0]["nodeId"]]
    while waiting:
        node = by_id[waiting.pop()]
        waiting += reversed([child for child in node.get("childIds", []) if child in by_id])
        if not node["ignored"]:
            read.append(tuple(node.get(part, {}).get("value", "").strip() for part in ("role", "name", "description")))
    return read


def named(read, roles):
    return [(role, name) for role, name, _ in read if role in roles]


@pytest.fixture(params=[1280, 390], ids=["wide", "phone"])
def held(page, two_cases, request):
    page.set_viewport_size({"width": request.param, "height": 844})
    sign_in(page)
    claim_next(page)
    return page


def test_every_control_and_every_picture_of_a_case_has_a_name(held):
    read = tree(held)
    controls, pictures, parts = (named(read, roles) for roles in (CONTROLS, PICTURES, NAMED_PARTS))
    assert [one for one in (*controls, *pictures, *parts) if not one[1]] == []
    acting = [name for role, name in controls if role != "link"]  # two links of one name lead to one place
    assert len(set(acting)) == len(acting), "two controls of one name cannot be told apart by ear"
    begin = [re.match(r"[A-Za-z-]+", name).group() for _, name in pictures]
    assert begin == ["Third-octave", "Scores", "Spectrogram", "Waveform"]
    assert all(re.search(r"over \d+\.\d s", name) for _, name in pictures)
    radios = [name for role, name in controls if role == "radio"]
    assert [re.match(r"[A-Z][a-z]+", name).group() for name in radios] == [
        "Confirmed",
        "Tantrum",
        "Television",
        "Other",
        "Cannot",
        "Escalate",
    ]
    assert ("slider", "Position in the clip") in controls
    assert ("slider", "Volume") in controls
    assert next(name for role, name, _ in read if role == "group" and name == "Verdict")


def test_the_headings_of_a_case_lead_through_it_and_changes_are_told_where_they_are_heard(held):
    read = tree(held)
    headings = [name for role, name, _ in read if role == "heading"]
    assert headings[:2] == ["Scream", "What was heard"]
    assert "Your verdict" in headings
    assert {"banner", "main", "status"} <= {role for role, _, _ in read}
    held.keyboard.press("p")
    until(held, "document.querySelector('audio').currentTime > 0.05 || document.querySelector('audio').ended")
    assert any(role == "button" and name.startswith(("Pause", "Play")) for role, name, _ in tree(held))
    told = held.locator("[data-seek]").get_attribute("aria-valuetext")
    assert re.fullmatch(r"\d\.\d of 1\.0 seconds", told)
