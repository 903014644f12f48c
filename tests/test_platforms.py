"""What Windows or macOS could not import, seen on Linux: in a process without the names that their Python lacks.

Third-party packages take care of themselves: all is imported once, then the names go, then what is ours is imported again.
"""

import importlib
import os
import pathlib
import runpy
import subprocess
import sys
import traceback

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ["course_helpers", "course_helpers/_engine", "course_helpers/exercises", "notebooks", "tools", "tools/book"]
FOLDERS += ["tools/bench", "tests", "."]
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))]
# From the documentation of Python: "Availability: Linux", "Availability: Unix".
LINUX_ONLY = {
    "os": """copy_file_range eventfd getrandom getresuid getxattr listxattr memfd_create pidfd_open pipe2 posix_fadvise
        posix_fallocate sched_getaffinity sched_setaffinity setxattr splice O_DIRECT O_PATH""",
    "resource": "prlimit RUSAGE_THREAD",
    "select": "epoll",
    "signal": "SIGPOLL SIGPWR SIGRTMAX SIGRTMIN SIGSTKFLT sigtimedwait sigwaitinfo",
    "socket": "AF_NETLINK AF_PACKET SOCK_CLOEXEC SOCK_NONBLOCK",
    "time": "CLOCK_BOOTTIME",
}
UNIX_ONLY = {
    "os": """chown chroot confstr fchdir fchown fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpgrp
        getpriority getsid getuid killpg lchown lockf mkfifo mknod nice openpty pathconf posix_spawn posix_spawnp pread
        pwrite readv register_at_fork sched_yield sendfile setgid setpgid setpriority setsid setuid statvfs sync sysconf
        tcgetpgrp ttyname uname wait wait3 wait4 writev O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC
        WEXITSTATUS WIFEXITED WIFSIGNALED WNOHANG WTERMSIG""",
    "signal": """SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGSYS SIGTRAP SIGTSTP
        SIGTTIN SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ alarm pause pthread_kill
        pthread_sigmask setitimer siginterrupt sigpending sigwait""",
    "select": "poll",
    "socket": "AF_UNIX",
    "time": "clock_gettime tzset",
}
UNIX_MODULES = "curses fcntl grp posix pty pwd readline resource syslog termios".split()


def failed_imports(system):
    """Import all Python files of the course; a line for each that fails."""
    for path in FILES:
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        try:
            if name.startswith(("course_helpers/", "tools/")):
                importlib.import_module(name.replace("/", "."))
            else:
                runpy.run_path(str(path), run_name="imported")
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            yield f"{system}: {name}: {error!r}, {place.filename}:{place.lineno}"


def take_away(names_of):
    """Remove names from modules of Python, and what is ours from memory."""
    for module, names in names_of.items():
        for name in names.split():
            vars(importlib.import_module(module)).pop(name, None)
    for name, module in list(sys.modules.items()):
        if name != "__main__" and getattr(module, "__file__", None) in map(str, FILES):
            del sys.modules[name]


@pytest.mark.skipif(sys.platform != "linux", reason="names are taken away from a Linux that has them")
def test_all_files_can_be_imported_on_all_platforms():
    run = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


if __name__ == "__main__":
    failures = list(failed_imports("Linux"))
    take_away(LINUX_ONLY)
    sys.platform = "darwin"
    failures += failed_imports("macOS")
    take_away(UNIX_ONLY)
    sys.modules.update(dict.fromkeys(UNIX_MODULES))  # None: as if it were not installed
    sys.modules[pathlib.Path.__module__].WindowsPath = pathlib.PosixPath  # the paths of this computer stay
    sys.platform, os.name = "win32", "nt"
    failures += failed_imports("Windows")
    sys.exit("\n".join(failures) or None)
