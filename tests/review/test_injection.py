"""Markup, formulas and control signs in every field that takes free words: on every page, in every export, in what the log prints."""

from __future__ import annotations

import csv
import json
from functools import reduce
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from tests.review.callers import client_of
from tests.review.test_access import FILLED
from typer.testing import CliRunner

from earmark_review.access import RULES, Audience
from earmark_review.accounts import Role
from earmark_review.cli import app
from earmark_review.errors import SettingsError
from earmark_review.export import export
from earmark_review.tables import inert, write_table

MARKUP = """"'></textarea></title></script><xss-probe onx="1">{{7*7}}</xss-probe><img src=x onerror=alert(1)>"""
FORMULA = "=cmd|' /C calc'!A0"
HOSTILE = f"{FORMULA} {MARKUP}"
STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


class Reader(HTMLParser):
    """Notes every element and attribute that a browser would make of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.sources, self.words = set(), set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag in {"script", "img", "audio", "iframe", "object", "embed"}:
            self.sources.append(dict(attrs).get("src", ""))
        self.attributes |= {name for name, _ in attrs}
        self.words += [value for _, value in attrs if value]

    def handle_data(self, data):
        self.words.append(data)


def check_page(page):
    reader = Reader()
    reader.feed(page.text)
    assert "html" in reader.tags
    assert "xss-probe" not in reader.tags
    assert [source for source in reader.sources if not source.startswith(("/static/", "/cases/"))] == []
    assert not {name for name in reader.attributes if name.startswith("on") or name in {"style", "srcdoc"}}
    words = "\n".join(reader.words)
    assert "49</xss" not in words
    return words


@pytest.fixture
def hostile_words(house, make_sending):
    """A decided case and an asked-for original, with hostile words wherever anybody may write words; and who holds the second."""
    sender, ada = house.device(), house.user("ada")
    words = {"boot_id": f"boot {HOSTILE}"[:128], "consent_id": HOSTILE[:128]}
    house.consent(consent_id=HOSTILE[:128], may_train=True)
    for number, label in enumerate(("cry", "scream")):
        one = make_sending(f"{number}{HOSTILE.replace('/', '|')}"[:128], label, masked=True, **words)
        assert sender.post(one.payload).status_code == 201
        for tier, payload in one.objects.items():
            assert sender.put(quote(one.event.event_id, safe=""), tier, payload).status_code == 201
    scream, cry = ada.case_ids()
    ada.decide(cry, "play", HOSTILE)
    ada.claim(scream)
    assert ada.act(scream, "original", ada.lease_of(scream), reason=HOSTILE).status_code == 303
    return {"decided": cry, "asked": scream}, ada


@pytest.fixture
def hostile(hostile_words):
    return hostile_words[0]


def pages_of(client, case_ids):
    """Every page that there is to GET, for each case."""
    for endpoint, rule in RULES.items():
        method, path = endpoint.split(" ")
        if method == "GET" and rule.audience is not Audience.DEVICES:
            for case_id in case_ids:
                yield client.get(reduce(lambda so_far, pair: so_far.replace(*pair), {**FILLED, "{case_id}": case_id}.items(), path))


def test_no_page_makes_anything_of_hostile_words_but_words(house, hostile):
    shown, count = "", 0
    for role in (None, Role.REVIEWER, Role.SENIOR, Role.SUPERVISOR, Role.AUDITOR, Role.PRIVACY_OFFICER):
        browser = house.user(f"the {role}", role) if role else house.browser("ada")
        for page in pages_of(browser.client, hostile.values()):
            if page.headers.get("content-type", "").startswith("text/html"):
                shown, count = shown + check_page(page), count + 1
    assert count > 40
    assert shown.count(HOSTILE) >= 2  # the note and the reason
    assert shown.count(f"boot {HOSTILE}"[:128]) >= 2  # and the ids that a device chose


def test_no_refusal_makes_anything_of_what_it_repeats(house, hostile_words):
    (hostile, ada), stranger = hostile_words, client_of(house.app, accept="text/html")
    case, csrf, count = hostile["asked"], {"csrf": ada.csrf(), "lease": ada.lease_of(hostile["asked"])}, 0
    answers = [
        stranger.get("/login", params={"next": f"/{MARKUP}"}),
        stranger.post("/login", data={"name": MARKUP, "password": MARKUP, "csrf": MARKUP, "next": MARKUP}),
        stranger.get(f"/{MARKUP}"),
        ada.client.get("/queue", params={"page": MARKUP}),
        ada.client.get(f"/cases/{MARKUP}"),
        ada.client.post("/queue/next", content=b"x", headers={"content-type": MARKUP.encode("ascii", "replace")}),
        *(
            ada.client.post(f"/cases/{case}/verdict", data={**csrf, "verdict": "play", **words})
            for words in ({"verdict": MARKUP}, {"onset": MARKUP, "offset": MARKUP}, {"note": MARKUP * 100})
        ),
        ada.client.post("/you", data={**csrf, "day_min": MARKUP, "run_min": MARKUP}),
        house.user("sam", Role.SUPERVISOR).client.post("/originals/1", data={"csrf": MARKUP, "answer": MARKUP}),
    ]
    for page in answers:
        assert page.headers["content-type"].startswith("text/html"), page.text
        check_page(page)
        count += 1
    assert count == 11


@pytest.mark.parametrize("name", [HOSTILE, MARKUP, FORMULA, "+1", "-1", "@SUM(A1)", "\t=1", "a\r\nb", "<b>", 'x" onx="1', "a'b", "a,b"])
def test_no_account_or_device_is_named_so(house, name):
    with pytest.raises(SettingsError, match="user name"):
        house.service.add_user(name, "long enough for a test")
    with pytest.raises(SettingsError, match="device name"):
        house.service.offer_enrolment(name)


def test_no_cell_of_any_export_is_a_formula_and_every_line_parses(house, hostile, tmp_path):
    assert export(house.service, tmp_path / "out").rows == 1
    files = [path for path in (tmp_path / "out").rglob("*") if path.suffix in {".csv", ".jsonl"}]
    assert len(files) >= 2
    cells = 0
    for path in files:
        if path.suffix == ".jsonl":
            assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines())
            continue
        with path.open(newline="") as file:
            for row in csv.reader(file, strict=True):
                for cell in row:
                    cells += 1
                    assert not cell.startswith(STARTS) or is_number(cell)
    assert cells > 30


def is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("start", STARTS)
def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(tmp_path, start):
    hostile = f'{start}HYPERLINK("http://evil.test","x"),\n"y"'
    write_table(tmp_path / "t.csv", ("a", "b"), [{"a": hostile, "b": -1.5}, {"a": f"  {hostile}", "b": "plain - text"}])
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file, strict=True))
    assert rows == [["a", "b"], [f"'{hostile}", "-1.5"], [f"'  {hostile}", "plain - text"]]
    assert inert(7) == 7


def test_what_the_log_prints_is_one_line_for_each_entry_without_control_signs(house, hostile):
    house.user("aud", Role.AUDITOR).sign_in("\x1b[31m" + HOSTILE)
    printed = CliRunner().invoke(app, ["log", "--data", str(house.data)]).stdout
    assert len(printed.splitlines()) == len(house.log())
    assert all(letter.isprintable() for letter in printed.replace("\n", ""))
    lines = CliRunner().invoke(app, ["log", "--data", str(house.data), "--json"]).stdout.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [entry.seq for entry in house.log()]
