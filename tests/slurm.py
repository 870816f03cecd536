"""A real SLURM of one node, on loopback and without systemd, as root: munged, slurmctld and slurmd in a folder."""

import os
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(os.environ.get("L2GNET_SLURM", "/"))  # where Debian's slurm-wlm and munge are installed or unpacked
PLUGINS = ROOT / "usr/lib/x86_64-linux-gnu/slurm-wlm"
# A node of eight cores and 40 GB, as it says; jobs share what is there.
CONFIG = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=40000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def available() -> bool:
    """Whether SLURM and munge are here, and may be started."""
    return os.geteuid() == 0 and (ROOT / "usr/sbin/slurmctld-wlm").exists() and (ROOT / "usr/sbin/munged").exists()


class OneNode:
    """Started by `with`; `environment` is for those who submit jobs."""

    def __init__(self, folder: Path):
        self.folder = folder
        names = {"folder": folder, "host": socket.gethostname().split(".")[0], "plugins": PLUGINS}
        ports = {"controller_port": _free_port(), "node_port": _free_port()}
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        (folder / "slurm.conf").write_text(CONFIG.format(**names, **ports))
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        self.environment = {
            **os.environ,
            "PATH": f"{ROOT / 'usr/bin'}:{os.environ['PATH']}",
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        if Path("/") != ROOT:
            self.environment["LD_LIBRARY_PATH"] = f"{PLUGINS}:{PLUGINS.parent}"
        self.daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "OneNode":
        names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
        files = [f"--{name}={self.folder / file}" for name, file in (names | {"seed-file": "munge.seed"}).items()]
        try:
            self._start("munged", "--foreground", "--force", *files)
            self._until((self.folder / "munge.socket").exists)
            self._start("slurmctld-wlm", "-D", "-i")
            self._start("slurmd-wlm", "-D", "-d", ROOT / "usr/sbin/slurmstepd-wlm")
            self._until(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            daemon.wait(timeout=30)

    def run(self, command: str, *words: object, **settings: object) -> str:
        """What a command of SLURM prints; on failure, what it complains of."""
        line = [ROOT / "usr/bin" / command, *map(str, words)]
        result = subprocess.run(line, env=self.environment, capture_output=True, text=True, **settings)
        return result.stdout or result.stderr

    def _start(self, daemon: str, *words: object) -> None:
        with (self.folder / f"{daemon}.out").open("w") as out:
            line = [str(ROOT / "usr/sbin" / daemon), *map(str, words)]
            self.daemons.append(subprocess.Popen(line, env=self.environment, stdout=out, stderr=out))

    def _until(self, ready) -> None:
        deadline = time.monotonic() + 60
        while not ready():
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in self.daemons):
                told = {file.name: file.read_text()[-500:] for file in self.folder.glob("*.[ol][uo][tg]")}
                raise RuntimeError(f"SLURM does not start: {told}")
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
