"""What holds for all that pytest runs, lessons included."""

import gc
import os
import shutil
import signal
import tempfile
from functools import partial

# No test, and no notebook that is tested, counts as a learner's work.
os.environ["COURSE_PROGRESS"] = "off"


def pytest_configure(config):
    """Let what is left behind, as by kernels that are killed, lie in one temporary folder, and delete it at the end."""
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # where tmp_path stays, to be looked at
    folder = tempfile.tempdir = tempfile.mkdtemp(prefix="course-")
    os.environ |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), folder)
    # Background jobs of a shell ignore Ctrl+C, and so would all that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))


def pytest_collection_modifyitems(items):
    """Begin with what takes long."""
    items.sort(key=lambda item: str(item.path), reverse=True)  # later lessons take longer
    items.sort(key=lambda item: (not item.path.name.startswith("test_browser"), item.path.suffix != ".ipynb"))


def pytest_collection_finish():
    """Let the garbage collector pass over thousands of collected tests: some checks collect before they measure."""
    gc.collect()
    gc.freeze()
