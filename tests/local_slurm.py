"""A SLURM of one node on this machine, in a temporary folder, for as long as it is needed.

python tests/local_slurm.py COMMAND ...     (runs the command there)
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
START, END = 60.0, 40.0  # seconds that the daemons may take
# No cgroups and no accounting: they need more rights than a test has.
SETTINGS = """ClusterName=study
SlurmctldHost={host}(127.0.0.1)
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={control}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
MinJobAge=86400
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Programs that this machine lacks; Debian's packages slurm-wlm and munge have them."""
    return [name for name in PROGRAMS if not program(name)]


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextlib.contextmanager
def running(cpus: int = os.cpu_count() or 1):
    """The daemons at work; gives the environment for its commands."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    values = {"folder": folder, "host": socket.gethostname().split(".")[0], "user": getpass.getuser(), "cpus": cpus}
    values |= {"memory": psutil.virtual_memory().total // 2**20}
    with socket.create_server(("127.0.0.1", 0)) as control, socket.create_server(("127.0.0.1", 0)) as node:
        values |= {"control": control.getsockname()[1], "node": node.getsockname()[1]}
    (folder / "slurm.conf").write_text(SETTINGS.format(**values))
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    # Snakemake's plugin takes SLURM_CONF away before it calls srun, which would then look where a real cluster has it.
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {program("srun")} "$@"\n')
    srun.chmod(0o755)
    environment["PATH"] = f"{srun.parent}:{environment['PATH']}"
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
    daemons = []
    try:
        for name, *options in (
            ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
            ["slurmctld", "-D", "-c"],
            ["slurmd", "-D"],
        ):
            with (folder / "log").open("a") as log:
                daemons.append(subprocess.Popen([program(name), *options], env=environment, stdout=log, stderr=log))
            if name == "munged":
                wait_until((folder / "munge.socket").exists, START, (folder / "log").read_text)
        state = ("sinfo", "--noheader", "--format=%T")
        wait_until(lambda: asked(environment, *state) == "idle", START, (folder / "log").read_text)
        yield environment
        asked(environment, "scancel", f"--user={values['user']}")
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: asked(environment, "squeue", "--noheader") == "", END, lambda: "jobs remain")
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(END)
            daemon.kill()
        shutil.rmtree(folder, ignore_errors=True)


def asked(environment: dict[str, str], *command: str) -> str:
    """What a command of SLURM prints; its error where it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=START)
    return (done.stdout if done.returncode == 0 else done.stderr).strip()


def wait_until(holds, seconds: float, reason) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(reason())
        time.sleep(0.2)


if __name__ == "__main__":
    if missing():
        sys.exit(f"not on this machine: {', '.join(missing())}")
    with running() as environment:
        sys.exit(subprocess.run(sys.argv[1:], env=environment, check=False).returncode)
