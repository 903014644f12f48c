"""A real SLURM of one node in folders of its own, for the tests: nothing of it outlives them, nothing else is changed."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from getpass import getuser
from unittest.mock import patch

from processes import end, free_ports, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONFIGURATION = """
ClusterName=course
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=0
KillWait=2
MinJobAge=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs():
    """The programs that are needed, but not installed."""
    return [name for name in PROGRAMS if not found(name)]


def found(name):
    """The path of a program; the folder of those for administrators is not on everybody's path."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextlib.contextmanager
def running_slurm(folder):
    """Start munge and SLURM with all their files in a folder, and set SLURM_CONF; kill jobs and servers at the end."""
    host = socket.gethostname().split(".")[0]
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, host=host, user=getuser(), ports=free_ports(2)))
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    munge = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
    files = (f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in munge.items())
    servers = [
        (found("munged"), "--foreground", "--force", f"--key-file={key}", *files),
        (found("slurmctld"), "-D", "-i", "-f", str(configuration)),
        (found("slurmd"), "-D", "-N", host, "-f", str(configuration)),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, SLURM_CONF=str(configuration)))
        for command in servers:
            log = stack.enter_context(open(folder / f"{os.path.basename(command[0])}.out", "wb"))
            stack.callback(end, subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
            if command is servers[0]:
                wait_until(munge["socket"].exists, "munge answers")
        wait_until(lambda: answer("sinfo", "--noheader", "--format=%T") == "idle", f"SLURM is idle; see {folder}")
        stack.callback(no_jobs_left)
        yield folder


def no_jobs_left():
    """Cancel what is still in the queue, what waits before what runs, and wait until it is gone."""
    answer("scancel", "--user", getuser(), "--state=pending")
    answer("scancel", "--user", getuser())
    wait_until(lambda: not jobs(), "no job is left")


def answer(*command):
    """What a command prints; nothing if it fails."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()


def jobs(state="all"):
    """The numbers of the jobs that are in the queue, in a state if one is given."""
    states = () if state == "all" else (f"--states={state}",)
    return answer("squeue", "--noheader", "--format=%i", *states).split()
