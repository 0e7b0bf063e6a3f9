import socket
from pathlib import Path

import pytest
from tests.units import NEEDS_SYSTEMD, assert_exposure_at_most

from earmark_edge.listen.notify import ALIVE, READY, STOPPING, notify

ROOT = Path(__file__).resolve().parents[3]
UNIT = ROOT / "deploy" / "earmark.service"


@NEEDS_SYSTEMD
def test_the_units_exposure_is_at_most_two():
    assert_exposure_at_most(UNIT, 20)


def test_the_unit_keeps_what_is_heard_in_memory_and_starts_what_exists():
    lines = UNIT.read_text().splitlines()
    assert {"MemorySwapMax=0", "LimitCORE=0", "StateDirectory=earmark", "Type=notify"} <= set(lines)
    assert any(line.startswith("ExecStart=") and " edge listen " in line for line in lines)


@pytest.mark.parametrize("is_abstract", [True, False])
def test_systemd_is_told(tmp_path, is_abstract):
    name = f"@earmark-test-{tmp_path.name}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0" + name[1:] if is_abstract else name)
        heard.settimeout(5)
        for state in (READY, ALIVE, STOPPING):
            assert notify(state, {"NOTIFY_SOCKET": name})
            assert heard.recv(99) == state.encode()
    assert not notify(READY, {"NOTIFY_SOCKET": name})


def test_without_systemd_nobody_is_told():
    assert not notify(READY, {})
    assert not notify(READY, {"NOTIFY_SOCKET": "relative"})


def test_the_container_file_and_the_pages_name_what_exists():
    container = (ROOT / "deploy" / "Containerfile").read_text()
    for word in ("libportaudio2", "ffmpeg", ".[edge,mic,mqtt]", "USER earmark", '"edge"]', 'CMD ["listen", "mic"]'):
        assert word in container
    page = (ROOT / "docs" / "install-raspberry-pi.md").read_text()
    for word in ("deploy/earmark.service", "earmark edge doctor", "libportaudio2"):
        assert word in page
