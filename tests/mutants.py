"""Deliberate mistakes, of the kind people make here, and the test file that must notice each.

    python tests/mutants.py           all of them
    python tests/mutants.py 3 17      numbers 3 and 17
    python tests/mutants.py noise     those whose description or file contains the word

Each is made in a copy of the checkout; only the named test file runs. Exit code 1 if one
survives, or is STALE: its text is no longer in the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.mistakes import MISTAKES  # noqa: E402 (the script runs from anywhere)

MUTANTS = [(*where, *row) for where, rows in MISTAKES.items() for row in rows]


def fails(folder: Path, test: str) -> bool:
    """Whether the test file notices."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", f"tests/{test}"]
    here = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True, timeout=600)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{test} did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def chosen(words: list[str]) -> list[int]:
    return [
        i
        for i, (file, _, what, *_) in enumerate(MUTANTS)
        if not words or any(w == str(i) or (not w.isdigit() and w in f"{what} {file}") for w in words)
    ]


def main(words: list[str]) -> int:
    survived = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for part in ("repaint", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for test in dict.fromkeys(MUTANTS[i][1] for i in chosen(words)):
            if fails(folder, test):
                raise SystemExit(f"{test} fails without a mistake")
        for i in chosen(words):
            file, test, what, old, new = MUTANTS[i]
            path = folder / "repaint" / file
            before = path.read_text()
            found = "STALE" if before.count(old) != 1 else "caught"  # the code has changed: so must the table
            if found == "caught":
                path.write_text(before.replace(old, new))
                found = "caught" if fails(folder, test) else "SURVIVED"
                path.write_text(before)
            survived += found != "caught"
            print(f"{i:3} {found:8} {what} ({test})", flush=True)
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
