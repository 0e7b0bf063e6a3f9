"""A real broker, mosquitto, with TLS and a password; and what a subscriber hears of it."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt import client as paho

from earmark_edge.announce.settings import MqttSettings

USER, PASSWORD = "earmark", "a broker's own password"


def program(name):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package mosquitto)")
    return found


def write_certificate(folder: Path) -> None:
    """One that is an authority and a server's at once, for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a broker")]), datetime.now(UTC)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)  # noqa: FBT003 - the standard's order
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))


@dataclass
class Broker:
    """A mosquitto that can be stopped and started again at the same port."""

    folder: Path
    port: int
    process: subprocess.Popen | None = None

    def start(self):
        command = [program("mosquitto"), "-c", str(self.folder / "mosquitto.conf")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end_s = time.monotonic() + 15
        while time.monotonic() < end_s:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.02)
        pytest.fail("mosquitto did not start")

    def stop(self):
        self.process.terminate()
        self.process.wait(15)

    def settings(self, **changes) -> MqttSettings:
        words = {"host": "127.0.0.1", "port": self.port, "is_tls": True, "name": "hall", "prefix": "homeassistant"}
        return MqttSettings(**(words | {"user": USER, "password": PASSWORD, "ca": self.folder / "ca.pem"} | changes))


@pytest.fixture(scope="session")
def broker_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broker")
    write_certificate(folder)
    subprocess.run([program("mosquitto_passwd"), "-b", "-c", folder / "passwords", USER, PASSWORD], check=True, capture_output=True)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@contextmanager
def running(folder: Path, lines: str):
    """A broker on a free port of this machine, as `lines` of its configuration say."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = f"user {os.environ.get('USER', 'root')}\n" if os.geteuid() == 0 else ""
    (folder / "mosquitto.conf").write_text(f"{user}listener {port} 127.0.0.1\npersistence false\n{lines}")
    made = Broker(folder, port)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def broker(broker_folder):
    sealed = f"certfile {broker_folder / 'ca.pem'}\nkeyfile {broker_folder / 'key.pem'}\n"
    with running(broker_folder, f"{sealed}password_file {broker_folder / 'passwords'}\nallow_anonymous false\n") as made:
        yield made


@pytest.fixture
def open_broker(broker_folder):
    """One that speaks to whoever is on this machine, without TLS or a password."""
    with running(broker_folder, "allow_anonymous true\n") as made:
        yield made


@pytest.fixture
def subscriber(broker):
    """Everything that the broker was told, in order: (topic, content, whether it was retained)."""

    @contextmanager
    def subscribing():
        heard, is_ready = [], threading.Event()
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="subscriber")
        client.username_pw_set(USER, PASSWORD)
        client.tls_set_context(ssl.create_default_context(cafile=broker.folder / "ca.pem"))
        client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        client.on_subscribe = lambda *_: is_ready.set()
        client.on_message = lambda _client, _data, message: heard.append((message.topic, message.payload.decode(), bool(message.retain)))
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        assert is_ready.wait(15)
        try:
            yield heard
        finally:
            client.disconnect()
            client.loop_stop()

    return subscribing
