"""A Slurm of one machine, for tests. Standard library only."""

import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess

from recipes import SHARDS, TIMEOUT_S, search_path, wait_for


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class OneMachineSlurm:
    """munged, slurmctld and slurmd of Debian's packages, in a folder and on ports of their own, as whoever runs this.

    Nothing that a container may lack: no cgroups (linuxproc follows processes), no service manager, no accounting."""

    PROGRAMS = {"munged": "munge", "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm"}
    NODE = "here"

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": search_path()}

    def start(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir(mode=0o755)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        self._write_configuration()
        self._daemon("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self._munge_socket}",
                     f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munged.seed",
                     f"--log-file={self.folder}/munged-own.log")
        wait_for("munged", self._munge_socket.exists, 20)
        self._daemon("slurmctld", "-D", "-c")
        self._daemon("slurmd", "-D", "-c")
        wait_for("an idle node", lambda: "idle" in self.call("sinfo", "--noheader", "--format=%t", check=False), 60)

    @property
    def _munge_socket(self):
        return self.folder / "munge.socket"

    def _write_configuration(self):
        host, user = socket.gethostname().split(".")[0], self._user()
        (self.folder / "slurm.conf").write_text("\n".join([
            "ClusterName=molar", f"SlurmctldHost={host}(127.0.0.1)", f"SlurmUser={user}", f"SlurmdUser={user}",
            f"SlurmctldPort={free_port()}", f"SlurmdPort={free_port()}", "AuthType=auth/munge", "CredType=cred/munge",
            f"AuthInfo=socket={self._munge_socket}", f"StateSaveLocation={self.folder}/state",
            f"SlurmdSpoolDir={self.folder}/spool", f"SlurmctldPidFile={self.folder}/slurmctld.pid",
            f"SlurmdPidFile={self.folder}/slurmd.pid", "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/none", "AccountingStorageType=accounting_storage/none", "MailProg=/bin/true",
            "SelectType=select/cons_tres", "SelectTypeParameters=CR_CPU", "SlurmdParameters=config_overrides",
            "SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,bf_interval=1", "MinJobAge=600", "ReturnToService=2",
            "KillWait=30", f"NodeName={self.NODE} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={SHARDS}",
            f"PartitionName=all Nodes={self.NODE} Default=YES MaxTime=INFINITE State=UP", ""]))

    @staticmethod
    def _user():
        return pwd.getpwuid(os.getuid()).pw_name

    def _daemon(self, name, *words):
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes.append(subprocess.Popen([shutil.which(name, path=search_path()), *words], env=self.environment,
                                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder))

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self):
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(self.folder.glob("*.log")))

    def call(self, *words, check=True, **options):
        environment = options.pop("env", {}) | self.environment
        result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, **options)
        if check and result.returncode != 0:
            raise AssertionError(f"{words}: exit {result.returncode}: {result.stderr}\n{self.logs()}")
        return result.stdout

    def submit(self, *words, **options):
        """The array's job number."""
        return int(self.call("sbatch", "--parsable", *words, **options).strip())

    def tasks(self, job):
        """Task -> fields of `scontrol show job`, of an array's tasks."""
        found = {}
        for line in self.call("scontrol", "show", "job", str(job), "--oneliner", check=False).splitlines():
            fields = dict(re.findall(r"(\S+?)=(\S*)", line))
            if fields.get("ArrayTaskId", "").isdigit():
                found[int(fields["ArrayTaskId"])] = fields
        return found

    def state(self, job, task):
        return self.tasks(job).get(task, {}).get("JobState")
