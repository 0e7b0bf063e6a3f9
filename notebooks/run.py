"""Run the notebooks and keep what they print and draw: `python notebooks/run.py [NAME.ipynb ...]`, all of them without a name."""  # noqa: INP001 - a script

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 600


def run(path: Path) -> NotebookNode:
    """The notebook with the outputs of a run in a fresh kernel, in its own folder; run times and counts of this machine are left out.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=TIMEOUT_S, record_timing=False, resources={"metadata": {"path": str(path.parent)}}).execute()
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def main() -> None:
    """Rewrite each notebook in place."""
    for path in [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        nbformat.write(run(path), path)
        sys.stdout.write(f"{path.name}: {path.stat().st_size / 1024:.0f} kB\n")


if __name__ == "__main__":
    main()
