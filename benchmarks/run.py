"""The benchmark from a checkout: the same as ``dln bench``, without an installed `dln`.

python benchmarks/run.py P1 P2 --out benchmarks/results/mine.json
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if __name__ == "__main__":
    from dln import bench, cli

    bench.one_thread()
    sys.exit(cli.main(["bench", *sys.argv[1:]]))
