"""Every setting and option of `earmark edge listen` reaches the part that it turns: what `run` puts together is looked at, and not run."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.edge.device import consented, enrolled
from tests.edge.listen.test_settings import GIVEN as OF_LISTENING
from tests.edge.test_settings import GIVEN as OF_DECIDING

from earmark_edge.decide import DecideConfig
from earmark_edge.listen import run as run_module
from earmark_edge.listen.report import JsonReport, LinesReport
from earmark_edge.listen.run import Request, run
from earmark_edge.listen.settings import ListenSettings
from earmark_edge.listen.shadow import Terms
from earmark_edge.listen.source import PcmFormat

FAILED = 1


@pytest.fixture
def parts(tmp_path, bundle, monkeypatch, service):
    """What reaches the listener, for a request and an environment; the default bundle is the tones'."""
    state = tmp_path / "state"
    enrolled(state, service.url)
    consented(state)
    monkeypatch.setattr(run_module, "bundle_to_run", lambda given, _state: (given or bundle, 0))
    monkeypatch.setattr(run_module, "gpio_line", lambda pin: lambda: pin == 17)
    for name in ("give_back_memory", "overwrite_freed_memory"):
        monkeypatch.setattr(run_module, name, lambda: None)  # they change the whole process, which is the tests'
    seen = {}
    found_of = run_module.inputs_of

    def inputs_of(*words, **more):
        seen["inputs"] = found_of(*words, **more)
        return seen["inputs"]

    def listener(names, scorer, decide, settings, **more):
        threads = scorer._session.get_session_options().intra_op_num_threads
        updates, sink = more["outlets"].updates, more["outlets"].sink
        caps = {each.spool._cap_bytes for each in (sink._sealing, sink._sending)} if hasattr(sink, "_sealing") else set()
        seen.update(names=names, decide=decide, settings=settings, threads=threads, mute=more["mute"].reasons, caps=caps)
        seen.update(outlets=more["outlets"], updates=updates, bundle_sha256=scorer.spec.graph_sha256, muted_by=more["mute"]._path)
        msg = "all is put together"
        raise OSError(msg)

    monkeypatch.setattr(run_module, "inputs_of", inputs_of)
    monkeypatch.setattr(run_module, "Listener", listener)

    def put_together(environ=(), **request):
        monkeypatch.setattr(run_module.os, "environ", {"EARMARK_STATE": str(state), **dict(environ)})
        assert run(Request(**{"inputs": ("-",), "rate": 16_000} | request)) == FAILED
        return SimpleNamespace(**seen)

    return put_together


@pytest.mark.parametrize("name", [each.name for each in fields(DecideConfig)])
def test_a_setting_of_deciding_reaches_detectors_and_what_is_on_trial(parts, name):
    text, value = OF_DECIDING[name]
    got = parts({f"EARMARK_{name.upper()}": text}, send=True)
    assert got.decide == got.updates._config == got.outlets.sink._rules.config == DecideConfig(**{name: value})


@pytest.mark.parametrize("name", [each.name for each in fields(ListenSettings)])
def test_a_setting_of_listening_reaches_the_listener(parts, name):
    text, value = OF_LISTENING[name]
    assert getattr(parts({f"EARMARK_{name.upper()}": text}).settings, name) == value


def test_the_other_settings_reach_what_they_turn(parts, tmp_path, write_bundle):
    got = parts({}, send=True)
    assert (got.threads, got.mute, got.caps) == (1, (), {2**28})
    assert got.updates._terms == Terms(3, 300.0)
    assert parts({"EARMARK_THREADS": "2"}).threads == 2
    assert parts({"EARMARK_MUTE_GPIO": "17"}).mute == ("switch",)
    assert parts({"EARMARK_OUTBOX_BYTES": "3000000"}, send=True).caps == {3_000_000}
    assert parts({"EARMARK_UPDATES": "0"}, send=True).updates is None
    turned = {"EARMARK_TRIAL_CANARIES": "5", "EARMARK_TRIAL_CANARY_S": "60"}
    assert parts(turned, send=True).updates._terms == Terms(5, 60.0)
    threaded = parts({"EARMARK_THREADS": "2"}, send=True).updates._load(write_bundle(tmp_path / "offered"))
    assert threaded._session.get_session_options().intra_op_num_threads == 2
    assert parts({"EARMARK_STATE": str(tmp_path / "other")}).muted_by == str(tmp_path / "other" / "mute")


def test_the_bundle_of_the_option_comes_before_that_of_the_environment_and_both_before_updates(parts, tmp_path, write_bundle):
    one, two = (write_bundle(tmp_path / name, verified=verified) for name, verified in (("one", ()), ("two", ("scream",))))
    unverified = {}
    for name, given in {"environment": {}, "option": {"bundle": two}}.items():
        got = parts({"EARMARK_BUNDLE": str(one)}, send=True, **given)
        assert got.updates is None
        unverified[name] = got.outlets.sink._rules.spec.unverified
    assert unverified == {"environment": ("scream", "cry", "baby_cry"), "option": ("cry", "baby_cry")}


def test_the_options_reach_what_they_turn(parts, tmp_path):
    sound = tmp_path / "evening.wav"
    sound.write_bytes(b"")
    got = parts()
    assert got.inputs[0].source._form == PcmFormat(16_000, 1, "s16le")
    assert isinstance(got.outlets.report, LinesReport)
    assert isinstance(parts(json_lines=True).outlets.report, JsonReport)
    assert parts(rate=8_000, channels=2, encoding="f32le").inputs[0].source._form == PcmFormat(8_000, 2, "f32le")
    assert [parts(inputs=(str(sound),), fast=fast).inputs[0].source._is_paced for fast in (False, True)] == [True, False]
    assert parts(inputs=(f"bed={sound}", "mic:USB")).names == ["bed", "microphone USB"]
    assert parts(state=tmp_path / "other").muted_by == str(Path(tmp_path / "other" / "mute"))
    assert parts(send=False).caps == set()
