"""One first use: what a user waits for in a new session. Started by `measure.first_use`, as a process.

    python first_use.py JOB METHOD RTOL [FILES ...]

prints the seconds of the imports and those of the first solve, compilation included. NumPy is loaded before.
"""

import importlib
import json
import sys
import time

from rivals import Job, collect

job, method, rtol = Job.load(sys.argv[1]), collect(sys.argv[4:])[sys.argv[2]], float(sys.argv[3])
start = time.perf_counter()
for module in method.modules:
    importlib.import_module(module)
imported = time.perf_counter()
method.prepare(job)(rtol)
print()
print(json.dumps({"import": imported - start, "solve": time.perf_counter() - imported}))
