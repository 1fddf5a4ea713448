"""Examples run, and what the README shows is what comes out."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = (ROOT / "README.md").read_text()


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path):
    assert load(path).run(quick=True)


def test_digits_grow_in_rank_and_generalise_best_early(tmp_path):
    rows = load(ROOT / "examples" / "digits.py").run(quick=True, output=tmp_path)
    ranks = [row["rank"] for row in rows]
    assert ranks == sorted(ranks)
    assert ranks[:2] == [0, 1]
    tests = [row["test cost"] for row in rows]
    assert min(tests) < tests[0] / 3
    assert tests.index(min(tests)) == 1


def test_readme_example_prints_what_the_readme_shows():
    code, shown = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL).groups()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == shown


def test_readme_is_short_and_its_commands_are_those_of_ci():
    assert len(README.splitlines()) < 150
    commands = [line.strip() for line in README.splitlines() if line.startswith("    python3 -m venv")]
    assert [command.split("&& ")[-1] for command in commands] == [
        ".venv/bin/dln run",
        ".venv/bin/python -m pytest",
    ]
