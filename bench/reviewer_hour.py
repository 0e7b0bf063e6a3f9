"""A full hour of work as a reviewer, in headless Chromium and by keyboard alone, on real clips that a device flags.

A queue of flagged clips is worked to its end: picture and scores, masked sound, verdicts, a skip, an escalation that ends as a dispute
before a supervisor, an original that two people open, a deletion under someone's nose, and the break after an hour, which the server
enforces.
The service's clock skips what would be listening and waiting. Clips live in a temporary folder alone. `--shots` keeps a picture of
each screen: with a corpus of real recordings these show people's voices as pictures, so keep them out of any repository.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from bench.flagged_clips import BenchDevice, Flagged, flagged_clips
from bench.reviewer_desk import Clock, Desk, Notes
from playwright.sync_api import Browser, sync_playwright
from rich.progress import track

from earmark_model.contract import SENSITIVE
from earmark_review.accounts import Role
from earmark_review.service import open_service
from earmark_review.settings import read_settings
from earmark_review.store.policies import issue_policy
from earmark_review.web.serving import Running, running

PASSWORD = "a long enough password"
LOOK_S = 110.0
"""What a look at a case is taken to last."""
ANSWER_S = 60.0
HEARTBEAT_S = 200.0
_HEARTBEAT = """(async () => {
  const {case: id, csrf, lease} = document.querySelector("[data-case]").dataset;
  return (await fetch(`/cases/${id}/heartbeat`, {method: "POST", body: new URLSearchParams({csrf, lease})})).status;
})()"""
"""What the page sends by itself as time goes by, which here is skipped."""
ESCALATED, SKIPPED = 1, 2
"""Which case of the queue is escalated, and at which one is handed back."""
SPARE = 4
"""Clips beyond the queue's: for the original, the deletion, the break, and one that is left."""
KEYS = {"scream": "1", "cry": "1", "baby_cry": "1", "laughter": "2", "background": "4"}
"""The verdict that fits what the corpus says a clip is."""


class Hour:
    """The work, step by step."""

    def __init__(self, server: Running, clock: Clock, browser: Browser, notes: Notes, width: int, scheme: str) -> None:
        self._server, self._clock, self._notes = server, clock, notes
        self._ada, self._bea, self._sam = (Desk(browser, server.url, notes, width, scheme) for _ in range(3))

    def sign_in(self) -> None:
        """Three people, one of whom mistypes first."""
        page = self._ada.page
        page.goto("/login")
        self._notes.screen(page, "sign-in")
        self._ada.type("ada")
        self._ada.press("Tab")
        self._ada.type("wrong, twice")
        self._ada.press("Enter")
        page.get_by_role("alert").wait_for()
        self._notes.screen(page, "sign-in-refused")
        self._ada.sign_in("ada", PASSWORD)
        self._notes.screen(page, "queue")
        self._ada.press("?")
        self._notes.screen(page, "queue-keys")
        self._ada.press("Escape")
        self._bea.sign_in("bea", PASSWORD)
        self._sam.sign_in("sam", PASSWORD)

    def work(self, truths: dict[str, str], count: int) -> None:
        """Cases one after the other."""
        page = self._ada.page
        for number in track(range(count), "working the queue"):
            self._ada.claim()
            if number == 0:
                self._notes.screen(page, "case")
                self._use_every_control()
            elif number % 2 == 1:
                self._ada.press("p")
                page.wait_for_timeout(200)
            self._clock.advance(LOOK_S)
            if number == SKIPPED:
                self._ada.press("s")
                self._ada.see("is back in the queue")
                self._notes.screen(page, "skipped")
                self._ada.claim()
                self._clock.advance(LOOK_S)
            key = "6" if number == ESCALATED else KEYS[truths[page.url.rpartition("/")[2]]]
            self._ada.decide(key, "two voices, one of them small" if number == ESCALATED else "")
            if number == 0:
                self._notes.screen(page, "decided")

    def _use_every_control(self) -> None:
        page, ada = self._ada.page, self._ada
        ada.press("p")
        page.wait_for_timeout(700)
        ada.press("p", "g", "h", "l", "ArrowRight", "[")
        self._notes.screen(page, "case-coloured-and-played")
        ada.press("?")
        self._notes.screen(page, "case-keys")
        ada.press("Escape", "g")

    def settle(self) -> None:
        """The second look at what was escalated, and the dispute that follows."""
        self._bea.page.goto("/queue")
        self._bea.claim()
        self._bea.decide("4")
        self._sam.page.goto("/queue")
        self._sam.page.get_by_text("In dispute").wait_for()
        self._notes.screen(self._sam.page, "queue-with-a-dispute")
        self._sam.tab_to_row("In dispute")
        self._sam.press("c")
        self._sam.see("Your verdict")
        self._notes.screen(self._sam.page, "dispute")
        self._sam.decide("4", "a door")

    def break_the_glass(self) -> None:
        """One asks, another agrees, the first hears the original."""
        ada, sam = self._ada, self._sam
        ada.claim()
        ada.press("o")
        ada.tab_to("Why the masked sound")
        ada.type("a voice may be calling for help by name")
        self._notes.screen(ada.page, "asking-for-the-original")
        ada.tab_to("Ask")
        ada.press("Enter")
        ada.see("This page opens it when a second person has agreed")
        self._notes.screen(ada.page, "asked")
        self._clock.advance(ANSWER_S)
        sam.page.goto("/queue")
        self._notes.screen(sam.page, "someone-asks")
        sam.tab_to("Answer")
        sam.press("Enter")
        sam.page.get_by_role("heading", name="Originals").wait_for()
        self._notes.screen(sam.page, "originals")
        sam.tab_to("Open it for")
        sam.press("Enter")
        sam.see("Nothing to answer")
        ada.see("The original is open until")
        ada.press("p")
        ada.page.wait_for_timeout(500)
        self._notes.screen(ada.page, "original-open")
        ada.decide("1")

    def delete(self, device: str, event_id: str, case_id: str) -> str:
        """A household's wish reaches a case that someone has open."""
        ada = self._ada
        ada.page.goto(f"/cases/{case_id}")
        self._notes.screen(ada.page, "case-unclaimed")
        ada.press("c")
        ada.see("Your verdict")
        command = [str(Path(sys.executable).with_name("earmark")), "review", "event", "delete", device, event_id]
        data = str(self._server.service.settings.data)
        told = subprocess.run([*command, "--data", data], check=True, capture_output=True, text=True)
        ada.press("1", "d")
        ada.see("was deleted, as its household may ask")
        self._notes.screen(ada.page, "deleted-meanwhile")
        return told.stdout.strip()

    def rest(self) -> None:
        """The hour is over in the middle of a case."""
        ada = self._ada
        ada.page.goto("/queue")
        ada.claim()
        ada.press("n")
        ada.type("half a thought")
        for _ in range(20):
            self._clock.advance(HEARTBEAT_S)
            if ada.page.evaluate(_HEARTBEAT) == HTTPStatus.CONFLICT:
                break
        ada.press("Escape", "5", "d")
        ada.page.get_by_role("heading", name="Your claim has ended").wait_for()
        self._notes.screen(ada.page, "claim-ended")
        ada.page.goto("/queue")
        ada.see("opens for you again at")
        self._notes.screen(ada.page, "time-for-a-break")
        ada.page.goto("/you")
        self._notes.screen(ada.page, "own-time")
        self._clock.advance(600)
        ada.page.goto("/queue")
        ada.claim()
        ada.decide("5")

    def look_round(self) -> None:
        """The pages that nobody works at."""
        self._sam.page.goto("/queue")
        if "/login" in self._sam.page.url:  # idle for an hour by the service's clock
            self._sam.sign_in("sam", PASSWORD)
        for where in ("decided", "figures", "devices", "log", "originals", "you"):
            self._sam.page.goto(f"/{where}")
            self._notes.screen(self._sam.page, f"supervisor-{where}")
        self._sam.page.goto("/devices")
        self._sam.press("j", "Enter")
        self._sam.page.get_by_role("heading", name="hall").wait_for()
        self._notes.screen(self._sam.page, "supervisor-device")
        self._sam.page.goto("/decided")
        self._sam.press("j", "Enter")
        self._sam.see("Event details")
        self._notes.screen(self._sam.page, "decided-case")
        self._sam.page.goto("/cases/" + 32 * "0")
        self._notes.screen(self._sam.page, "no-such-case")
        self._ada.page.goto("/log")
        self._notes.screen(self._ada.page, "not-allowed")


def main() -> None:
    """Print what the hour was like."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"), help="a folder with manifest.csv (default: %(default)s)")
    parser.add_argument("--cases", type=int, default=30, help="how many cases the queue holds (default: %(default)s)")
    parser.add_argument("--shots", type=Path, help="a folder for a picture of each screen; by default none is kept")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in pixels (default: %(default)s)")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light", help="(default: %(default)s)")
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        parser.error("needs the program `chromium`")
    if not (given.corpus / "manifest.csv").is_file():
        parser.error(f"{given.corpus} has no manifest.csv; give a labelled corpus with --corpus")
    if given.shots:
        given.shots.mkdir(parents=True, exist_ok=True)
    notes = Notes(given.shots)
    with tempfile.TemporaryDirectory(prefix="reviewer-hour-") as folder, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        _hour(Path(folder), browser, notes, given)
        browser.close()
    _report(notes, given)


def _hour(folder: Path, browser: Browser, notes: Notes, given: argparse.Namespace) -> None:
    clock = Clock()
    settings = read_settings(data=folder / "data", port=0, second_review_share=0, golden_share=0)
    service = open_service(settings, now=clock)
    for name, role in (("ada", Role.REVIEWER), ("bea", Role.REVIEWER), ("sam", Role.SUPERVISOR)):
        service.add_user(name, PASSWORD, role)
    with service.database.writing() as conn:
        issue_policy(conn, (0, 1, 2, 3), SENSITIVE, ("scream",), clock())
    with running(service) as server:
        device = BenchDevice(server, "hall", folder / "device")
        total = given.cases + SPARE
        sent = []
        for flagged in track(flagged_clips(given.corpus, total), "a device hears", total=total):
            device.send(flagged.parcel)
            sent.append(flagged)
        device.beat("passed")
        hour = Hour(server, clock, browser, notes, given.width, given.scheme)
        hour.sign_in()
        hour.break_the_glass()
        hour.work(_truths(server, sent), given.cases)
        hour.settle()
        case_id, event_id = _last_open(server)
        print(hour.delete(device.name, event_id, case_id))
        hour.rest()
        hour.look_round()
        device.close()
    service.close()
    print(f"the service's clock skipped {clock.skipped.total_seconds() / 60:.0f} min of looking and waiting")


def _truths(server: Running, sent: Sequence[Flagged]) -> dict[str, str]:
    """What the corpus says of each case."""
    by_event = {flagged.parcel.event.event_id: flagged.truth for flagged in sent}
    with server.service.database.reading() as conn:
        rows = conn.exec_driver_sql("SELECT c.case_id, e.event_id FROM cases c JOIN events e ON e.event_row = c.event_row").all()
    return {case_id: by_event[event_id] for case_id, event_id in rows}


def _last_open(server: Running) -> tuple[str, str]:
    query = (
        "SELECT c.case_id, e.event_id FROM cases c JOIN events e ON e.event_row = c.event_row WHERE c.state = 'ready' "
        "ORDER BY c.severity DESC, c.opened_at DESC LIMIT 1"
    )
    with server.service.database.reading() as conn:
        case_id, event_id = conn.exec_driver_sql(query).one()
    return case_id, event_id


def _report(notes: Notes, given: argparse.Namespace) -> None:
    print(f"{notes.screens} screens at {given.width} px, {given.scheme}; {notes.keys} keys pressed, no pointer")
    print(
        f"axe: {len(notes.barriers)} violations; console: {len(notes.complaints)} complaints; wider than the window: {len(notes.too_wide)}"
    )
    for line in (*notes.barriers, *notes.complaints, *notes.too_wide):
        print(f"  {line}")
    for what, waits in notes.waits_s.items():
        worst = sorted(waits)[max(0, round(0.95 * len(waits)) - 1)]
        print(f"{what}: median {1000 * statistics.median(waits):.0f} ms, 95 % within {1000 * worst:.0f} ms ({len(waits)} times)")
    if notes.barriers or notes.complaints or notes.too_wide:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
