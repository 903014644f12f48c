"""What the browser tests share: a JupyterLab of their own, and a notebook in it, used as a person uses it."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import warnings

from processes import ROOT, end, free_ports, wait_until

TOKEN = "course-browser-test"
MINUTE = 60_000  # milliseconds; long, because a test that waits for a condition ends as soon as it holds


@contextlib.contextmanager
def running_jupyterlab(folder, *module_and_options):
    """The address of a JupyterLab with settings of its own, which works on a copy of the course in this folder."""
    for name in ("notebooks", "tools"):  # a browser saves what it has opened
        shutil.copytree(ROOT / name, folder / name)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", *module_and_options, "--no-browser", "--allow-root"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
    own = "JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR JUPYTERLAB_WORKSPACES_DIR JUPYTERLAB_SETTINGS_DIR"
    environment = os.environ | {name: str(folder / name) for name in own.split()} | {"PYTHONUTF8": "1"}
    log = folder / "server.log"
    with open(log, "wb") as file:
        streams = {"stdout": file, "stderr": file, "stdin": subprocess.DEVNULL}
        server = subprocess.Popen(command, cwd=folder, env=environment, **streams)
    address = f"http://127.0.0.1:{port}"

    def answers():
        assert server.poll() is None, log.read_text()
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=60).close() is None

    try:
        wait_until(answers, f"JupyterLab answers, see {log}")
        yield address
    finally:
        if not end(server):  # how JupyterLab ends is not what is tested, but should be known
            warnings.warn(f"JupyterLab did not end when asked to:\n{log.read_text(errors='replace')[-2000:]}")


class Notebook:
    """A notebook in JupyterLab: run it, find its cells, look at what they show."""

    def __init__(self, browser, address, path):
        self.path = path
        self.page = browser.new_page(viewport={"width": 1300, "height": 1000})
        self.page.set_default_timeout(10 * MINUTE)
        self.page.goto(f"{address}/lab/tree/{path}?token={TOKEN}&reset")
        self.page.wait_for_function("() => window.jupyterapp && window.jupyterapp.shell")
        self.page.wait_for_function(
            """(path) => {
            const panel = window.jupyterapp.shell.currentWidget;
            return Boolean(panel && panel.context && panel.context.isReady && panel.context.path === path
                && panel.sessionContext.isReady && panel.sessionContext.session
                && panel.sessionContext.session.kernel.connectionStatus === 'connected'
                && panel.sessionContext.session.kernel.status === 'idle'); }""",
            arg=path,
        )

    def close(self):
        self.command("kernelmenu:shutdown")
        self.page.close()

    def command(self, name):
        """Run a command of JupyterLab's menus, and wait until it is done."""
        self.page.evaluate(
            """(name) => { window.commandIsDone = false;
            window.jupyterapp.commands.execute(name).finally(() => { window.commandIsDone = true; }); }""",
            name,
        )
        self.page.wait_for_function("() => window.commandIsDone")

    def run_all(self):
        """Run all cells, without the outputs they may have been stored with; the cells with their new outputs."""
        self.command("notebook:clear-all-cell-outputs")
        self.command("notebook:run-all-cells")
        return self.cells()

    def cells(self):
        """All cells: a list of dictionaries with type, source, outputs and count."""
        return self.page.evaluate(
            """() => window.jupyterapp.shell.currentWidget.context.model.toJSON().cells.map(cell => (
            {type: cell.cell_type, source: cell.source, outputs: cell.outputs || [], count: cell.execution_count}))"""
        )

    def index(self, text):
        """The number of the first code cell in whose source this text stands."""
        return next(i for i, cell in enumerate(self.cells()) if cell["type"] == "code" and text in cell["source"])

    def show(self, index):
        """Scroll to a cell, so that JupyterLab draws it; its element."""
        self.page.evaluate("(index) => window.jupyterapp.shell.currentWidget.content.scrollToItem(index)", index)
        cell = self.page.locator(f".jp-WindowedPanel-viewport > [data-windowed-list-index='{index}']")
        cell.wait_for(state="attached")
        return cell

    def enter(self, index):
        """Click into a cell, again if the page has moved meanwhile and the click has met another one."""

        def entered():
            self.show(index).locator(".cm-content").click()
            return self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex") == index

        self.wait_until(entered, f"cell {index} is entered")

    def edit(self, index, text):
        """Click into a cell, replace all that stands there, and run it; what it prints."""
        self.enter(index)
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(text)
        assert self.cells()[index]["source"] == text
        return self.run(index)

    def run(self, index):
        """Click into a cell, press Ctrl and Enter, and wait until it is done; what it prints."""
        before = self.cells()[index]["count"]
        self.enter(index)
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_function(
            """([index, before]) => {
            const panel = window.jupyterapp.shell.currentWidget;
            const count = panel.context.model.toJSON().cells[index].execution_count;
            return count && count !== before && panel.sessionContext.session.kernel.status === 'idle'; }""",
            arg=[index, before],
        )
        return printed(self.cells()[index])

    def wait_until(self, condition, what):
        """Wait until a function of nothing returns something true, and return it."""
        deadline = time.monotonic() + 300
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain until {what}"
            self.page.wait_for_timeout(100)
        return found

    def keep_picture(self, name):
        """Leave a picture of what the browser shows in tests/screenshots."""
        folder = ROOT / "tests" / "screenshots"
        folder.mkdir(exist_ok=True)
        self.page.screenshot(path=folder / f"{re.sub(r'[^0-9A-Za-z_.-]+', '-', name)}.png")


def printed(cell):
    """What a cell printed, to both streams."""
    chosen = [output for output in cell["outputs"] if output.get("name") in ("stdout", "stderr")]
    return "".join("".join(output["text"]) for output in chosen)
