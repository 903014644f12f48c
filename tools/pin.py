"""Write the pins of what pyproject.toml names: python course.py pin [--upgrade | --upgrade-package NAME]

requirements.txt holds what learners need, requirements-dev.txt what the groups need, both for all systems and Pythons.
"""

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPILE = """-m uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --quiet
    --no-emit-index-url --no-emit-find-links --custom-compile-command 'python course.py pin'"""

if __name__ == "__main__":
    command = [sys.executable, *shlex.split(COMPILE), *sys.argv[1:]]
    for sources in ("pyproject.toml -o requirements.txt", "--group all -c requirements.txt -o requirements-dev.txt"):
        subprocess.run([*command, *sources.split()], cwd=ROOT, check=True)
