"""Ed25519 keys in files: PEM with lines of text before it that name the key and its role.

`NAME.key` has the private key (PKCS 8, mode 0600), `NAME.pub` the public one. A key's id is the SHA-256 of the 32 raw
bytes of its public key.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Tuple

from edge_runtime.errors import ConfigError
from edge_runtime.plan import cryptography_api
from edge_runtime.plan.files import make_folder, sync_folder
from edge_runtime.plan.secret_file import read_secret, secret_text

VENDOR = "vendor"
DEVICE_BUILT = "device-built"
ROLES = (VENDOR, DEVICE_BUILT)
VARIABLE = "EDGE_RUNTIME_SIGNING_KEY"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_FILE = re.compile(
    r"name: (?P<name>\S+)\nrole: (?P<role>\S+)\n"
    r"(?P<pem>-----BEGIN (?P<kind>PUBLIC|PRIVATE) KEY-----\n[A-Za-z0-9+/=\n]{1,1024}-----END (?P=kind) KEY-----\n?)"
)


@dataclass(frozen=True)
class PublicKey:
    """A key that verifies: its raw 32 bytes, whose it is, and what it is good for."""

    name: str
    role: str
    raw: bytes

    @property
    def id(self) -> str:
        """The SHA-256 of the raw public key, in hex."""
        return hashlib.sha256(self.raw).hexdigest()

    def is_signature(self, signature: bytes, data: bytes) -> bool:
        """Whether the private key made this signature over `data`."""
        return cryptography_api.is_signature(self.raw, signature, data)


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs; its bytes aren't shown where it is printed."""

    name: str
    role: str
    raw: bytes = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The key that verifies what this one signs."""
        return PublicKey(self.name, self.role, cryptography_api.public_from_private(self.raw))

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`."""
        return cryptography_api.sign(self.raw, data)


def new_key(name: str, role: str) -> PrivateKey:
    """A new key.

    Raises:
        ConfigError: a key can't be called that, or there is no such role.
    """
    return PrivateKey(check_key_name(name), _checked_role(role, f"key {name!r}"), cryptography_api.new_private_key())


def check_key_name(name: str) -> str:
    """`name`, if a key may be called that: it becomes the name of a file.

    Raises:
        ConfigError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"key name {name[:64]!r}: expected 1 to 64 letters, digits, '_', '.' or '-', "
            "beginning with a letter, a digit or '_'"
        )
    return name


def private_key_text(key: PrivateKey) -> str:
    """What `NAME.key` holds."""
    return f"name: {key.name}\nrole: {key.role}\n{cryptography_api.private_pem(key.raw)}"


def public_key_text(key: PublicKey) -> str:
    """What `NAME.pub` holds."""
    return f"name: {key.name}\nrole: {key.role}\n{cryptography_api.public_pem(key.raw)}"


def private_key_from_text(text: str, source: str) -> PrivateKey:
    """The private key in the text of a file; `source` names it in messages, which never quote it.

    Raises:
        ConfigError: there is none in it, or it has no name or role.
    """
    name, role, pem = _parsed(text, "PRIVATE", source)
    return PrivateKey(name, role, cryptography_api.private_from_pem(pem, source))


def public_key_from_text(text: str, source: str) -> PublicKey:
    """The public key in the text of a file; `source` names it in messages.

    Raises:
        ConfigError: there is none in it, or it has no name or role.
    """
    name, role, pem = _parsed(text, "PUBLIC", source)
    return PublicKey(name, role, cryptography_api.public_from_pem(pem, source))


def _parsed(text: str, kind: str, source: str) -> Tuple[str, str, str]:
    match = _FILE.fullmatch(text)
    if match is None or match["kind"] != kind:
        raise ConfigError(
            f"{source}: expected the lines 'name: NAME' and 'role: {'|'.join(ROLES)}' and a {kind.lower()} key in PEM; "
            "edge-runtime keygen makes such a file"
        )
    return check_key_name(match["name"]), _checked_role(match["role"], source), match["pem"]


def _checked_role(role: str, source: str) -> str:
    if role not in ROLES:
        raise ConfigError(f"{source}: expected role {' or '.join(ROLES)}, got {role[:64]!r}")
    return role


def write_key_pair(key: PrivateKey, folder: Path) -> Tuple[Path, Path]:
    """Writes `NAME.key` and `NAME.pub` into a folder, which is made if it isn't there; gives both paths.

    Raises:
        ConfigError: one is there already, or can't be written.
    """
    private, public = folder / f"{key.name}.key", folder / f"{key.name}.pub"
    for path in (private, public):
        if os.path.lexists(path):
            raise ConfigError(f"{path}: is there already, and a key is never replaced; use another name or folder")
    try:
        if not folder.is_dir():
            make_folder(folder)
            folder.chmod(0o755)  # whatever the umask leaves: a trust folder isn't its group's to write
        write_new(public, public_key_text(key.public), 0o644)
        write_new(private, private_key_text(key), 0o600)
        sync_folder(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: keys can't be written there ({error.strerror})") from error
    return private, public


def write_new(path: Path, text: str, mode: int) -> None:
    """Writes a file that isn't there yet, with this mode from its first byte on, and waits until it is on the device.

    Raises:
        OSError: it is there, or can't be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123  (a descriptor, made with its mode)
        os.fchmod(handle, mode)  # whatever the umask leaves of it
        file.write(text)
        file.flush()
        os.fsync(handle)


def find_private_key(name: str, file: Path | None = None, environ: Mapping[str, str] = os.environ) -> PrivateKey:
    """The key to sign with: `$CREDENTIALS_DIRECTORY/NAME`, else `file`, else what `EDGE_RUNTIME_SIGNING_KEY` holds.

    Raises:
        ConfigError: there is none, others could read it, or it isn't a private key.
    """
    text, source = secret_text(name, file, VARIABLE, environ)
    return private_key_from_text(text, source)


def read_private_key(path: Path) -> PrivateKey:
    """The private key in a file that only root or this user can read.

    Raises:
        ConfigError: others could read it, or it isn't a private key.
    """
    return private_key_from_text(read_secret(path, 0o077), str(path))
