import json
import os
import shutil
import signal

import pytest
from tests.edge.device import enrolled
from tests.edge.review_double import SIGNING_KEY

from earmark_edge.bundle_offer import BundleOffer, OfferedFile
from earmark_edge.bundle_store import MOST_ATTEMPTS, OFFER_FILE, SHELF_FILE, BundleRefusedError, BundleStore, Shelf
from earmark_edge.settings import bundle_to_run, default_bundle
from earmark_edge.signature import Purpose, public_of, sign
from earmark_model.contract import CARD_FILE, GRAPH_FILE, SPEC_FILE, read_bundle, sha256_file

NAMES = (GRAPH_FILE, SPEC_FILE, CARD_FILE)
OFFERED_AT = "2026-01-31T12:00:00+00:00"


@pytest.fixture(scope="module")
def made(write_bundle, tmp_path_factory):
    folder = write_bundle(tmp_path_factory.mktemp("offered"))
    (folder / CARD_FILE).write_text("# A bundle\n")
    return folder


def offer_of(folder, version):
    files = tuple(OfferedFile(name, (folder / name).stat().st_size, sha256_file(folder / name)) for name in NAMES)
    payload = BundleOffer(version, OFFERED_AT, files).to_bytes()
    return payload, sign(SIGNING_KEY, Purpose.BUNDLE, payload)


def store(state, **more):
    return BundleStore(state, public_of(SIGNING_KEY), **more)


def taken(state, folder, version, **more):
    shelf = store(state, **more)
    payload, signature = offer_of(folder, version)
    offer = shelf.wanted(payload, signature)
    if offer is not None:
        shelf.take(offer, payload, signature, lambda file: (folder / file.name).read_bytes())
    return shelf


def adopted(state, folder, version, **more):
    shelf = taken(state, folder, version, **more)
    if shelf.begin_trial():
        assert shelf.adopt(version)
    return shelf


def test_a_bundle_that_passed_runs_and_one_that_is_on_trial_does_not(tmp_path, made):
    enrolled(tmp_path, "http://127.0.0.1:9")
    assert bundle_to_run(None, tmp_path) == (default_bundle(), 0)
    shelf = taken(tmp_path, made, 1)
    assert shelf.running() == 0
    assert shelf.begin_trial() == 1
    assert shelf.adopt(1)
    assert shelf.running() == 1
    assert bundle_to_run(None, tmp_path) == (shelf.folder(1), 1)
    assert bundle_to_run(made, tmp_path) == (made, 0), "what the owner named runs"
    assert read_bundle(shelf.folder(1)) == read_bundle(made)


def test_versions_only_rise_and_a_rollback_is_a_higher_one(tmp_path, made):
    shelf = adopted(tmp_path, made, 5)
    with pytest.raises(BundleRefusedError, match="older than bundle 5"):
        shelf.wanted(*offer_of(made, 4))
    assert shelf.wanted(*offer_of(made, 5)) is None
    adopted(tmp_path, made, 6)
    assert (shelf.shelf().running, shelf.shelf().previous) == (6, 5)


def test_another_content_under_the_same_version_is_refused(tmp_path, made):
    shelf = taken(tmp_path, made, 5)
    files = BundleOffer.from_bytes(offer_of(made, 5)[0]).files[:2]
    payload = BundleOffer(5, OFFERED_AT, files).to_bytes()
    with pytest.raises(BundleRefusedError, match="needs a higher version"):
        shelf.wanted(payload, sign(SIGNING_KEY, Purpose.BUNDLE, payload))


def test_an_offer_that_another_signed_or_that_was_signed_as_something_else_is_refused(tmp_path, made):
    payload, signature = offer_of(made, 1)
    for forged in (sign(bytes(32), Purpose.BUNDLE, payload), sign(SIGNING_KEY, Purpose.POLICY, payload), signature[:-1] + b"x"):
        with pytest.raises(BundleRefusedError, match="signature"):
            store(tmp_path).wanted(payload, forged)
    with pytest.raises(BundleRefusedError, match="signature"):
        store(tmp_path).wanted(payload.replace(b'"version":1', b'"version":2'), signature)


def test_a_file_that_is_not_the_offered_one_is_not_taken_and_nothing_runs_of_it(tmp_path, made):
    payload, signature = offer_of(made, 1)
    shelf = store(tmp_path)
    offer = shelf.wanted(payload, signature)
    for damage in (lambda content: content[:-1] + b"x", lambda content: content[:-1], lambda content: content + b"x"):
        with pytest.raises(BundleRefusedError, match="not the file that was offered"):
            shelf.take(offer, payload, signature, lambda file, damage=damage: damage((made / file.name).read_bytes()))
    assert shelf.shelf() == Shelf()


def test_a_download_that_was_cut_off_goes_on_with_the_files_that_it_lacks(tmp_path, made):
    payload, signature = offer_of(made, 1)
    shelf, asked = store(tmp_path), []

    def fetch(file):
        asked.append(file.name)
        if len(asked) == 2:
            msg = "the line went dead"
            raise RuntimeError(msg)
        return (made / file.name).read_bytes()

    with pytest.raises(RuntimeError, match="line"):
        shelf.take(shelf.wanted(payload, signature), payload, signature, fetch)
    shelf.take(shelf.wanted(payload, signature), payload, signature, fetch)
    assert asked == [GRAPH_FILE, SPEC_FILE, SPEC_FILE, CARD_FILE]


@pytest.mark.parametrize("name", [*NAMES, OFFER_FILE])
def test_a_running_bundle_that_is_damaged_gives_way_to_the_one_before(tmp_path, made, name, caplog):
    adopted(tmp_path, made, 1)
    shelf = adopted(tmp_path, made, 2)
    with (shelf.folder(2) / name).open("r+b") as file:
        file.seek(5)
        file.write(b"\xff")
    assert shelf.running() == 1
    assert "bundle 2 cannot run" in caplog.text
    shutil.rmtree(shelf.folder(1))
    assert shelf.running() == 0


def test_a_bundle_that_the_disk_damaged_is_taken_in_anew_and_tried_anew(tmp_path, made):
    adopted(tmp_path, made, 1)
    shelf = adopted(tmp_path, made, 2)
    assert shelf.wanted(*offer_of(made, 2)) is None
    (shelf.folder(2) / GRAPH_FILE).write_bytes(b"worn out")
    taken(tmp_path, made, 2)
    assert (shelf.running(), shelf.shelf().trial) == (1, 2), "the one before it runs meanwhile"
    assert shelf.wanted(*offer_of(made, 2)) is None
    adopted(tmp_path, made, 2)
    assert shelf.running() == 2
    assert shelf.wanted(*offer_of(made, 2)) is None


def test_a_bundle_that_failed_its_trial_is_not_taken_in_again(tmp_path, made):
    shelf = taken(tmp_path, made, 1)
    shelf.give_up(shelf.begin_trial(), "canary_missed")
    shelf.tidy()
    assert shelf.wanted(*offer_of(made, 1)) is None


@pytest.mark.parametrize("content", ["", "[]", '{"running": 9}', '{"running": "1"}', '{"running": 1, "seen": 1, "more": 0}', "\x00"])
def test_a_shelf_that_is_damaged_lets_the_shipped_bundle_run_and_no_version_fall(tmp_path, made, content):
    shelf = adopted(tmp_path, made, 7)
    path = shelf.folder(7).parent / SHELF_FILE
    path.write_text(content)
    assert shelf.running() == 0
    with pytest.raises(BundleRefusedError, match="older than bundle 7"):
        shelf.wanted(*offer_of(made, 6))
    assert adopted(tmp_path, made, 7).running() == 7, "it is offered still, and comes back"
    assert adopted(tmp_path, made, 8).running() == 8


def test_a_bundle_that_ends_the_device_again_and_again_is_given_up(tmp_path, made):
    shelf = taken(tmp_path, made, 1)
    for _ in range(MOST_ATTEMPTS):
        assert shelf.begin_trial() == 1
    assert shelf.begin_trial() == 0
    assert (shelf.shelf().outcome, shelf.shelf().trial) == ("crashed", 0)


def test_a_device_that_ends_in_order_does_not_count_against_the_bundle(tmp_path, made):
    shelf = taken(tmp_path, made, 1)
    for _ in range(2 * MOST_ATTEMPTS):
        assert shelf.begin_trial() == 1
        shelf.pause_trial()


def test_a_newer_offer_takes_the_place_of_one_on_trial_whose_outcome_then_says_nothing(tmp_path, made):
    shelf = taken(tmp_path, made, 1)
    shelf.begin_trial()
    taken(tmp_path, made, 2)
    assert not shelf.adopt(1)
    shelf.give_up(1, "canary_missed")
    assert (shelf.shelf().trial, shelf.shelf().outcome) == (2, "shadow")


def test_what_no_shelf_names_is_removed(tmp_path, made):
    for version in (1, 2, 3):
        shelf = adopted(tmp_path, made, version)
    (shelf.folder(9).parent / ".v4.part").mkdir()
    (shelf.folder(9).parent / ".v5.part").mkdir()
    shelf.tidy(loading=5)
    assert sorted(path.name for path in shelf.folder(3).parent.iterdir()) == [".v5.part", SHELF_FILE, "v2", "v3"]


def test_kill_9_at_any_durable_step_leaves_a_bundle_that_works_and_the_next_life_finishes(tmp_path, made):
    first = tmp_path / "first"
    adopted(first, made, 1)
    steps, status = 0, -1
    while status:
        steps += 1
        state = tmp_path / f"state-{steps}"
        shutil.copytree(first, state)
        child = os.fork()
        if child == 0:
            count = [0]

            def step(_name, count=count, kill_at=steps):
                count[0] += 1
                if count[0] == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

            try:
                adopted(state, made, 2, step=step)
            except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0 or os.WIFSIGNALED(status), "it ended in another way than by the kill"
        running = store(state).running()
        assert running in {1, 2}
        read_bundle(store(state).folder(running))
        assert adopted(state, made, 2).running() == 2
        json.loads((state / "bundles" / SHELF_FILE).read_text())
    assert steps > 12, "four files, a rename and three changes of the shelf have so many steps"
