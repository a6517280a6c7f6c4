"""A machine of its own in namespaces: a real systemd as process 1, with this checkout installed in /opt/edge-runtime.

`/etc`, `/var` and `/opt` are overlays over the host's, `/run` and `/tmp` are new: what is written there is gone with
it, and the host's processes can't be reached from it. The network is the host's. There is no memory or CPU controller,
and no negative OOMScoreAdjust.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Dict, Iterator, List, Sequence

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path("/opt/edge-runtime/bin/edge-runtime")
_BOOT_S = 30.0
_NEEDS = ("unshare", "nsenter", "mount", "systemctl", "systemd-analyze")
_SYSTEMD = Path("/lib/systemd/systemd")
_HIDDEN = ("/home", "/root", "/run")

_BOOT = """\
set -eu
export container=edge-runtime-test
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir /run/layers
mount -t tmpfs -o mode=755 tmpfs /run/layers
for name in etc var opt; do
  mkdir /run/layers/$name /run/layers/$name.work
  mount -t overlay overlay -o lowerdir=/$name,upperdir=/run/layers/$name,workdir=/run/layers/$name.work /$name
done
mkdir -p /opt/source /opt/python /opt/edge-runtime/bin "/opt/edge-runtime/lib/$PYTHON/site-packages"
mount --bind "$ROOT" /opt/source
mount --bind "$PACKAGES" "/opt/edge-runtime/lib/$PYTHON/site-packages"
mount --bind "$BASE" /opt/python
cat > /opt/edge-runtime/pyvenv.cfg << END
home = /opt/python/bin
include-system-site-packages = false
END
ln -s "/opt/python/bin/$PYTHON" /opt/edge-runtime/bin/python
cat > /opt/edge-runtime/bin/edge-runtime << END
#!/opt/edge-runtime/bin/python
import sys
sys.path.insert(0, "/opt/source")
from edge_runtime.cli.main import main
main()
END
chmod 755 /opt/edge-runtime/bin/edge-runtime
rm -rf /etc/systemd/system/*.wants
mkdir -p /var/log/journal
# LoadCredential= needs mounts that are shared.
mount --make-rshared /
exec /lib/systemd/systemd --system --unit=basic.target --log-target=journal --show-status=0
"""


def missing() -> str:
    """Why there can be no such machine here, "" if there can."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [program for program in _NEEDS if shutil.which(program) is None]
    if lacking or not _SYSTEMD.exists():
        return f"needs systemd and util-linux ({', '.join(lacking) or _SYSTEMD}); apt-get install systemd"
    overlay = "mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/u,workdir=/run/w /etc"
    probe = [*_UNSHARE, "sh", "-c", f"mount -t tmpfs tmpfs /run && mkdir /run/u /run/w && {overlay}"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"namespaces or overlays can't be had here: {done.stderr.strip()}"


_UNSHARE = ["unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--mount-proc", "--kill-child"]


class NoMachineError(RuntimeError):
    """Systemd itself doesn't come up in namespaces here, before anything of ours is installed."""


class Machine:
    """A running one, by the number that its process 1 has here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def path(self, path: str | Path) -> Path:
        """A path of the machine as it is reached from here."""
        return Path(f"/proc/{self.pid}/root{path}")

    def run(self, *words: str, check: bool = True, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Runs a command in it as root.

        Raises:
            RuntimeError: it failed, and `check` is set.
        """
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-C"]
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        done = subprocess.run(
            [*enter, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=environ,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def write(self, path: str | Path, text: str) -> None:
        """Writes a file in it."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def show(self, unit: str, *properties: str) -> Dict[str, str]:
        """What systemd says of a unit."""
        text = self.run("systemctl", "show", unit, *(f"-p{name}" for name in properties)).stdout
        return dict(line.split("=", 1) for line in text.splitlines())

    def log(self, unit: str, lines: int = 40) -> str:
        """The last lines that a unit logged."""
        return self.run("journalctl", "-u", unit, "-n", str(lines), "--no-pager", "-o", "cat", check=False).stdout

    def host_pid(self, pid: int) -> int:
        """The number that a process of the machine has here.

        Raises:
            ProcessLookupError: there is none any more.
        """
        space = os.readlink(f"/proc/{self.pid}/ns/pid")
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    if os.readlink(folder / "ns/pid") == space and _number_inside(folder) == pid:
                        return int(folder.name)
        raise ProcessLookupError(pid)


def _number_inside(folder: Path) -> int:
    line = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("NSpid:"))
    return int(line.split()[-1])


@contextlib.contextmanager
def booted() -> Iterator[Machine]:
    """A machine that has reached its basic target; it ends with the block.

    Raises:
        NoMachineError: it doesn't come up.
    """
    environ = {
        **os.environ,
        "ROOT": str(ROOT),
        "BASE": sys.base_prefix,
        "PYTHON": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "PACKAGES": sysconfig.get_path("purelib"),
    }
    outer = subprocess.Popen(
        [*_UNSHARE, "sh", "-c", _BOOT],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environ,
        start_new_session=True,
    )
    try:
        machine = Machine(_init_of(outer))
        _wait_until_up(machine)
        yield machine
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(outer.pid, signal.SIGKILL)
        outer.kill()
        outer.wait()
        assert outer.stderr is not None
        outer.stderr.close()


def _init_of(outer: subprocess.Popen[bytes]) -> int:
    end_s = time.monotonic() + _BOOT_S
    while time.monotonic() < end_s:
        if outer.poll() is not None:
            assert outer.stderr is not None
            raise NoMachineError(f"the machine doesn't come up: {outer.stderr.read().decode()}")
        for child in _children(outer.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return child
        time.sleep(0.05)
    raise NoMachineError("the machine has no systemd")


def _children(pid: int) -> List[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _wait_until_up(machine: Machine) -> None:
    end_s = time.monotonic() + _BOOT_S
    state = ""
    while time.monotonic() < end_s:
        state = machine.run("systemctl", "is-system-running", check=False).stdout.strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.1)
    raise NoMachineError(f"the machine stays {state!r}")


def edge_runtime(machine: Machine, words: Sequence[str], user: str = "") -> str:
    """Runs our command in the machine, as root or as another user; its output."""
    before = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
    return machine.run("env", "PYTHONPATH=/opt/source", *before, str(PROGRAM), *words).stdout
