"""What is refused says what was given, what was expected, and what to do: each line here once said only what was wrong."""

import errno
import itertools
import ssl

import httpx
import pytest
from tests.edge.review_double import Answer
from typer.testing import CliRunner

from earmark_cli.main import build
from earmark_edge.cli import app
from earmark_edge.enrolling import enrol
from earmark_edge.keys import unwritten
from earmark_edge.uplink import UplinkError, unreached
from earmark_model.contract import GRAPH_FILE, SPEC_FILE, sha256_file


def refused(*words: object, status: int) -> str:
    outcome = CliRunner().invoke(app, [*map(str, words)])
    assert outcome.exit_code == status, outcome.output
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    return outcome.stderr


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "is the service running"),
        (httpx.ConnectError("[Errno -2] Name or service not known"), "is the address spelt right"),
        (httpx.ConnectError("[Errno -3] Temporary failure in name resolution"), "is this machine online"),
        (httpx.ConnectError("[Errno 101] Network is unreachable"), "is this machine online"),
        (httpx.ConnectError(str(ssl.SSLCertVerificationError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"))), "SSL_CERT_FILE"),
        (httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), "is the port right"),
        (httpx.ConnectTimeout("timed out"), "firewall"),
        (httpx.ReadTimeout(""), "is the service running"),
    ],
)
def test_a_service_that_gives_no_answer_is_told_with_what_to_look_at(error, advice):
    assert advice in unreached(error)


@pytest.mark.parametrize(
    ("status", "advice"), [(200, "expected a review service"), (405, "expected a review service"), (503, "again later")]
)
def test_an_enrolment_answered_by_something_else_says_what_was_expected(status, advice, tmp_path, service):
    service.fail(Answer(status, b"<html>"))
    with pytest.raises(UplinkError, match=rf"answered {status}.*{advice}"):
        enrol(service.url, "CODE", tmp_path)


def test_a_state_folder_that_cannot_be_written_is_told_with_how_to_name_another(tmp_path):
    (tmp_path / "file").write_text("")
    state = tmp_path / "file" / "state"
    assert "EARMARK_STATE" in refused("consent", "give", "--tiers", "0", "--state", state, status=2)
    assert "EARMARK_STATE" in refused("ledger", "--state", state, status=1)


def test_a_full_disk_is_told_as_such():
    assert unwritten(OSError(errno.ENOSPC, "No space left on device")) == "make room on that disk"


def test_an_input_that_is_none_is_told_with_those_that_there_are():
    said = refused("explain", "radio:1", status=2)
    assert all(word in said for word in ("radio:1: no such file", "mic:NAME", "rtsp://HOST/PATH", "alsa:DEVICE", "a sound file"))


def test_a_bundle_that_was_cut_off_is_told_with_what_to_do(tmp_path, write_bundle):
    folder = write_bundle(tmp_path / "bundle")
    (folder / SPEC_FILE).write_text((folder / SPEC_FILE).read_text()[:100])
    assert "copy the bundle again" in refused("scan", "x.wav", "--bundle", folder, status=1)


def test_a_graph_that_is_none_is_told_with_what_to_do(tmp_path, write_bundle):
    folder = write_bundle(tmp_path / "bundle")
    described = sha256_file(folder / GRAPH_FILE)
    (folder / GRAPH_FILE).write_bytes(b"no graph")
    text = (folder / SPEC_FILE).read_text()
    (folder / SPEC_FILE).write_text(text.replace(described, sha256_file(folder / GRAPH_FILE)))
    assert "export the bundle again, or update onnxruntime" in refused("scan", "x.wav", "--bundle", folder, status=1)


def test_a_home_that_enrolled_nowhere_withdraws_without_being_told_to_enrol(tmp_path):
    CliRunner().invoke(app, ["consent", "give", "--tiers", "0", "--state", str(tmp_path)])
    withdrawn = CliRunner().invoke(app, ["consent", "withdraw", "--state", str(tmp_path)])
    assert "is withdrawn" in withdrawn.stdout
    assert withdrawn.stderr == ""


def test_every_help_is_wrapped_to_the_terminal_and_shows_the_defaults_that_it_names(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    for words in (["listen"], ["doctor"], ["explain"], ["scan"], ["enrol"], ["send"], ["ledger"], ["consent", "give"]):
        shown = CliRunner().invoke(build("edge"), ["edge", *words, "--help"]).stdout
        paragraphs = shown.partition("╭")[0].split("\n" + " " * 100 + "\n")
        for paragraph in paragraphs:
            lines = [line.strip() for line in paragraph.splitlines() if line.strip()]
            for line, following in itertools.pairwise(lines):
                assert len(line) + len(following.split()[0]) + 3 >= 100, f"{words}: broken off at {line!r}"
        assert "--state" not in shown or "EARMARK_STATE" in shown, words
    assert "Example" in shown
