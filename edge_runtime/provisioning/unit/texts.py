"""What the units say. Why is beside each part, for whoever reads them on a board."""

from __future__ import annotations

from typing import List

from edge_runtime.provisioning.unit.places import Places
from edge_runtime.provisioning.unit.site import Site

SERVER, BUILDER = "edge-runtime", "edge-runtime-build"

_HARDENED = """\
# What neither needs. PrivateDevices= isn't here: it hides the GPU, whose nodes are in the drop-in beside this.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectClock=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
DevicePolicy=closed
LimitCORE=0
LimitMEMLOCK=infinity
"""


def service_unit(site: Site, places: Places) -> str:
    """`edge-runtime.service`."""
    return f"""\
# Written by edge-runtime install-unit, which writes it anew: changes belong into edge-runtime.service.d/*.conf.
[Unit]
Description=edge_runtime inference server
After=network.target
# It is started again however often it ends; it waits by itself between attempts that fail.
StartLimitIntervalSec=0

[Service]
# Ready is said after an inference of each model, and alive only after another one: see docs/service.md.
Type=notify
NotifyAccess=main
ExecStart={_escaped(site)} serve --config {places.config}
ExecReload=/bin/kill -HUP $MAINPID
WatchdogSec=10
WatchdogSignal=SIGABRT
TimeoutStartSec=180
TimeoutStopSec=30
{_since(site, 243, "TimeoutAbortSec=1")}\
{_sockets(places)}\
Restart=always
RestartSec=200ms
# Configuration that is wrong doesn't mend itself.
RestartPreventExitStatus=78
# An engine's process (engine_process) that is killed for want of memory is replaced, not a reason to stop.
{_since(site, 243, "OOMPolicy=continue")}\
OOMScoreAdjust=-200

User={SERVER}
Group={SERVER}
{_groups(site)}\
UMask=0027
RuntimeDirectory=edge-runtime
StateDirectory=edge-runtime
StateDirectoryMode=0750
# All that it writes beside those; the plans are the build service's to write.
ReadWritePaths=-{places.requests}
Environment=EDGE_RUNTIME_ENGINES={places.engines}
Environment=EDGE_RUNTIME_TRUST__REQUIRE_SIGNED=true
Environment=PYTHONUNBUFFERED=1
{_credential(site, "plan.key", places.plan_key, places.has_plan_key)}\
# Shared memory of clients of the same user stays when this stops.
RemoveIPC=no
LimitNOFILE=65536
TasksMax=512

{_HARDENED}\
{_since(site, 247, "ProtectProc=invisible")}\
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
# The listeners are on loopback; where others shall reach them, take this back in a drop-in (docs/service.md).
IPAddressDeny=any
IPAddressAllow=localhost

[Install]
WantedBy=multi-user.target
"""


def build_unit(site: Site, places: Places) -> str:
    """`edge-runtime-build.service`: the only writer of plans."""
    return f"""\
# Written by edge-runtime install-unit, which writes it anew: changes belong into edge-runtime-build.service.d/*.conf.
[Unit]
Description=edge_runtime builds plans

[Service]
Type=oneshot
NotifyAccess=main
# What was asked for first; then all recipes and packs that are new, or that another JetPack has made new. That fails
# too where the first couldn't be built.
ExecStart=-{_escaped(site)} rebuild --requests {places.requests} {_sign(places)}
ExecStart={_escaped(site)} build --all --report reports {_sign(places)}
TimeoutStartSec=infinity
Nice=10
# A board that runs out of memory loses the build, not the server.
OOMScoreAdjust=500

User={BUILDER}
Group={BUILDER}
{_groups(site)}\
UMask=0022
StateDirectory=edge-runtime-build
WorkingDirectory=%S/edge-runtime-build
ReadWritePaths=-{places.requests}
Environment=EDGE_RUNTIME_ENGINES={places.engines}
Environment=PYTHONUNBUFFERED=1
{_credential(site, "signing.key", places.device_key, True)}\
{_credential(site, "plan.key", places.plan_key, places.has_plan_key)}\
# What somebody put into an ONNX file reaches nobody.
PrivateNetwork=yes
LimitNOFILE=65536

{_HARDENED}\
{_since(site, 247, "ProtectProc=invisible")}\
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any

[Install]
WantedBy=multi-user.target
"""


def path_unit(places: Places) -> str:
    """`edge-runtime-rebuild.path`: starts the build service when the server asks for something."""
    return f"""\
# Written by edge-runtime install-unit.
[Unit]
Description=edge_runtime is asked for plans

[Path]
PathExistsGlob={places.requests}/[!.]*
Unit=edge-runtime-build.service

[Install]
WantedBy=multi-user.target
"""


def socket_unit(name: str, address: str) -> str:
    """`edge-runtime-NAME.socket`: systemd listens, and starts the server with the first connection."""
    return f"""\
# Written by edge-runtime install-unit.
[Unit]
Description=edge_runtime listens ({name})

[Socket]
ListenStream={address}
FileDescriptorName={name}
SocketMode=0660
SocketUser={SERVER}
SocketGroup={SERVER}
Service=edge-runtime.service

[Install]
WantedBy=sockets.target
"""


def socket_unit_name(name: str) -> str:
    """What the unit of a socket is called."""
    return f"edge-runtime-{name}.socket"


def devices_drop_in(site: Site) -> str:
    """The device nodes that were there when this was written; patterns work for kinds of devices only."""
    lines = [
        "# Written by edge-runtime install-unit: the GPU's nodes of then. Write it anew after an update.",
        "[Service]",
    ]
    return "\n".join([*lines, *(f"DeviceAllow=/dev/{name} rw" for name in site.nodes), ""])


def sysusers(site: Site) -> str:
    """`sysusers.d/edge-runtime.conf`."""
    lines = [
        f'u {SERVER} - "edge_runtime server" /var/lib/edge-runtime',
        f'u {BUILDER} - "edge_runtime builds plans" /var/lib/edge-runtime-build',
        *(f"m {user} {group}" for user in (SERVER, BUILDER) for group in site.groups),
        "",
    ]
    return "\n".join(["# Written by edge-runtime install-unit.", *lines])


def tmpfiles(site: Site, places: Places) -> str:
    """`tmpfiles.d/edge-runtime.conf`: folders that the units don't make."""
    lines = [
        "d /etc/edge-runtime 0755 root root -",
        f"d {places.trusted} 0755 root root -",
        f"d /var/lib/edge-runtime-build 0755 {BUILDER} {BUILDER} -",
        f"d {places.engines} 0755 {BUILDER} {BUILDER} -",
        "# The server asks here for plans, the build service takes it away.",
        f"d {places.requests} 2770 {BUILDER} {SERVER} -",
    ]
    if not site.has_credentials:
        lines.append("# This systemd has no credentials: the build service reads its key itself.")
        lines.append(f"z {places.device_key} 0400 {BUILDER} root -")
    return "\n".join(["# Written by edge-runtime install-unit.", *lines, ""])


def server_toml(places: Places) -> str:
    """`server.toml`, written once: from then on it is the operator's."""
    return f"""\
# Settings of the server; docs/serving.md has all of them. `systemctl reload edge-runtime` reads this again.
[server]
unix = "{places.unix}"
# New versions are loaded by themselves; one that can't be is stood in for by the one before.
follow = true
stay_up = true
rebuild_requests = "{places.requests}"
"""


def _escaped(site: Site) -> str:
    return str(site.program).replace("%", "%%").replace("$", "$$")


def _since(site: Site, version: int, line: str) -> str:
    return f"{line}\n" if site.systemd >= version else ""


def _groups(site: Site) -> str:
    return f"SupplementaryGroups={' '.join(site.groups)}\n" if site.groups else ""


def _credential(site: Site, name: str, path: object, is_there: bool) -> str:
    return f"LoadCredential={name}:{path}\n" if site.has_credentials and is_there else ""


def _sign(places: Places) -> str:
    return f"--sign {places.device_key}"


def _sockets(places: Places) -> str:
    names = " ".join(socket_unit_name(name) for name, _ in places.sockets)
    return f"Sockets={names}\n" if names else ""


def hints(places: Places) -> List[str]:
    """The commands that put it to use."""
    wanted = ["edge-runtime.service", "edge-runtime-rebuild.path"]
    wanted += [socket_unit_name(name) for name, _ in places.sockets]
    return [
        "systemd-sysusers",
        "systemd-tmpfiles --create",
        "systemctl daemon-reload",
        f"systemctl enable --now {' '.join(wanted)}",
    ]
