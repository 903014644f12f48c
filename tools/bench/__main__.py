"""Run all benchmarks, or those named: python course.py bench [name ...] [--full]

With --full, some go up to larger sizes, which takes minutes.
"""

import importlib
import sys
from pathlib import Path

from tools.bench._timing import print_claims

if __name__ == "__main__":
    scripts = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    names = [argument for argument in sys.argv[1:] if argument != "--full"]
    unknown = [name for name in names if name not in scripts]
    if unknown:
        sys.exit(f"No benchmark is named {', '.join(unknown)}. There are: {', '.join(scripts)}.")
    for name in names or scripts:
        print(f"## {name}", flush=True)
        importlib.import_module(f"tools.bench.{name}").main()
    print_claims()
