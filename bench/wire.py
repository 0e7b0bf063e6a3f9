"""Every packet in a network namespace with a loopback interface and a wire to nowhere: what is sent to a stranger leaves, and is seen."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time

_WIRE = ("link add wire type veth peer name far", "link set wire addrgenmode none", "link set far addrgenmode none", "link set lo up",
         "link set wire up", "link set far up", "addr add 10.9.9.1/24 dev wire", "route add default via 10.9.9.2",
         "neigh add 10.9.9.2 lladdr 02:00:00:00:00:02 dev wire")  # fmt: skip
_EVERY_PROTOCOL, _STATISTICS, _BUFFER_BYTES = 3, 6, 1 << 25
_SOL_PACKET = 263


class Capture:
    """Every packet of every interface, from now on."""

    def __init__(self) -> None:
        self.packets: list[tuple[str, bytes]] = []
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            data, address = self._socket.recvfrom(2**17)
            self.packets.append((address[0], data))

    def on_the_wire(self) -> int:
        """Packets that did not stay on this machine; the far end's copies count too."""
        return sum(name != "lo" for name, _ in self.packets)

    def strangers(self, port: int) -> int:
        """Packets on the loopback interface that are no TCP over IPv4 from or to `port`."""
        return sum(name == "lo" and port not in _ports(data) for name, data in self.packets)

    def overlooked(self) -> int:
        """Packets since the last question that came too fast to be kept."""
        _, dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8))
        return int(dropped)


def captured() -> tuple[Capture, int]:
    """Lay the wire in this process's own namespace and capture; also how many packets a control to a stranger put on it.

    Raises:
        CalledProcessError: the wire cannot be laid: not root, or not in a namespace of one's own.
    """
    for line in _WIRE:
        subprocess.run(["ip", *line.split()], check=True)
    capture = Capture()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"hello", ("198.51.100.7", 53))
    time.sleep(0.5)
    control = capture.on_the_wire()
    capture.packets.clear()
    return capture, control


def _ports(data: bytes) -> tuple[int, ...]:
    """Source and destination of an Ethernet frame that carries TCP over IPv4; of any other none."""
    if data[12:14] != b"\x08\x00" or data[23] != socket.IPPROTO_TCP:
        return ()
    header = 14 + 4 * (data[14] & 15)
    return int.from_bytes(data[header : header + 2], "big"), int.from_bytes(data[header + 2 : header + 4], "big")
