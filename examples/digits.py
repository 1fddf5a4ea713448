"""Real data: the 10 x 64 matrix of class means of scikit-learn's digits, 60 % of its entries observed.

The matrix goes to a .csv file with empty cells, as a user would have it, and from there through ``dln run --target``.
The rank grows step by step, the direction common to all digits first. The error on the held-out entries is least on the
plateau of rank 1: of so few entries, later ranks fit what the others do not confirm.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from dln import cli


def class_means():
    """Mean image of each digit, shape (10, 64), grey values 0 .. 16."""
    digits = load_digits()
    return np.array([digits.data[digits.target == k].mean(axis=0) for k in range(10)])


def run(quick=False, output=None):
    """Rows of the table of plateaus."""
    folder = Path(output or tempfile.mkdtemp(prefix="dln-digits-"))
    file = folder / "digit_means.csv"
    np.savetxt(file, class_means(), delimiter=",", fmt="%.6g")
    size = ["--depth", "3", "--width", "30" if quick else "100"]
    options = [
        "--target",
        str(file),
        "--test-fraction",
        "0.4",
        "--gamma",
        "2.5",
        *size,
        "--output",
        str(folder),
    ]
    cli.main(["run", *options])
    return json.loads((folder / "saddle-to-saddle.json").read_text())["rows"]


if __name__ == "__main__":
    run()
