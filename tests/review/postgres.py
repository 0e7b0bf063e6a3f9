"""A PostgreSQL server of one's own, in a temporary folder, reached by a socket in that folder and by nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import glob
from itertools import count
from pathlib import Path

import psycopg

_UNPRIVILEGED = "nobody"
"""Who the server runs as where the tests run as root, whom it refuses."""


def _program(name: str) -> str | None:
    """Debian keeps the server's programs out of the path."""
    return shutil.which(name) or next(iter(sorted(glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)), None)  # noqa: PTH207


def missing_programs() -> str:
    """Which of the server's programs are not there."""
    return ", ".join(name for name in ("initdb", "pg_ctl") if _program(name) is None)


class PostgresServer:
    """Starts, stops and restarts; makes databases."""

    def __init__(self, folder: Path, *, durable: bool, inside: Sequence[str] = ()) -> None:
        self._folder, self._inside, self._numbers = folder, inside, count()
        words = {"listen_addresses": "", "unix_socket_directories": str(folder), "max_connections": "200", "shared_buffers": "64MB"}
        if not durable:  # a test kills processes, not the machine
            words |= {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}  # which would be at the template at times
        self._options = " ".join(f"-c {name}='{value}'" for name, value in words.items())

    def _run(self, *words: str) -> None:
        """As the unprivileged user, and in the mount namespace of `inside`, which only root may enter."""
        user = _UNPRIVILEGED if os.geteuid() == 0 and not self._inside else None
        log = self._folder / "output"
        with log.open("a") as output:
            command = (*self._inside, *words)
            done = subprocess.run(command, user=user, cwd=self._folder, stdout=output, stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, f"{words}\n{log.read_text()}"

    def init(self) -> None:
        words = ("--auth=trust", "--username=earmark", "--encoding=UTF8", "--locale=C", "--no-sync", "--wal-segsize=4")
        self._run(_program("initdb"), "-D", str(self._folder / "data"), *words)

    def start(self) -> None:
        log = str(self._folder / "log")
        self._run(_program("pg_ctl"), "start", "-w", "-D", str(self._folder / "data"), "-l", log, "-o", self._options)

    def stop(self, mode: str = "fast") -> None:
        """`immediate` is a crash: what was not committed is lost, and the log is replayed at the next start."""
        self._run(_program("pg_ctl"), "stop", "-w", "-D", str(self._folder / "data"), "-m", mode)

    def restart(self) -> None:
        """Whether it runs or gave up."""
        self._run(
            _program("pg_ctl"), "restart", "-w", "-D", str(self._folder / "data"), "-l", str(self._folder / "log"), "-o", self._options
        )

    def dump(self, url: str, to: Path) -> None:
        """A backup as an operator takes one."""
        subprocess.run([_program("pg_dump"), "--format=custom", f"--file={to}", url], check=True)

    def restore(self, dump: Path) -> str:
        """The address of a new database with what a backup holds."""
        url = self.create()
        subprocess.run([_program("pg_restore"), "--exit-on-error", f"--dbname={url}", str(dump)], check=True)
        return url

    def url(self, name: str) -> str:
        return f"postgresql://earmark@/{name}?host={self._folder}"

    def create(self, name: str | None = None, template: str = "template1") -> str:
        """The address of a new database."""
        name = name or f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever still has it open."""
        name = url.partition("@/")[2].partition("?")[0]
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A server while the block runs; `durable` as one in earnest, otherwise quick."""
    memory = "/dev/shm"
    where = memory if not durable and Path(memory).is_dir() else None
    with tempfile.TemporaryDirectory(prefix="earmark-pg-", dir=where) as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, _UNPRIVILEGED)
        yield from _lives(PostgresServer(Path(folder), durable=durable))


@contextmanager
def postgres_with_little_room(megabytes: int) -> Iterator[tuple[PostgresServer, Path]]:
    """A server whose data lie on a file system of that size, which no other process sees, and where we find the same; takes root."""
    with tempfile.TemporaryDirectory(prefix="earmark-pg-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        mount = (
            f"mount -t tmpfs -o size={megabytes}m,mode=700,uid=$(id -u {_UNPRIVILEGED}) room {data} && echo ready && exec sleep infinity"
        )
        with subprocess.Popen(["unshare", "--mount", "sh", "-c", mount], stdout=subprocess.PIPE, text=True) as holder:
            try:
                assert holder.stdout is not None
                assert holder.stdout.readline() == "ready\n"
                shutil.chown(folder, _UNPRIVILEGED)
                enter = ("nsenter", f"--target={holder.pid}", "--mount", f"--wd={folder}", "runuser", "-u", _UNPRIVILEGED, "--")
                for server in _lives(PostgresServer(Path(folder), durable=False, inside=enter)):
                    yield server, Path(f"/proc/{holder.pid}/root{data}")
            finally:
                holder.kill()


def _lives(server: PostgresServer) -> Iterator[PostgresServer]:
    server.init()
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")
