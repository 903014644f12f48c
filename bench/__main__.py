"""Run all benchmarks, or those named: python course.py bench [name ...]"""

import runpy
import sys
from pathlib import Path

scripts = {path.stem: path for path in sorted(Path(__file__).parent.glob("[a-z]*.py"))}
unknown = [name for name in sys.argv[1:] if name not in scripts]
if unknown:
    sys.exit(f"No benchmark is named {', '.join(unknown)}. There are: {', '.join(scripts)}.")
for name in sys.argv[1:] or scripts:
    print(f"## {name}", flush=True)
    runpy.run_path(str(scripts[name]))["main"]()
