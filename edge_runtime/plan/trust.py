"""Whom this machine trusts: a folder of public keys, each with a role, and what is asked of a plan before it is loaded.

The role `vendor` signs anything. `device-built` is for the key that a device makes for itself: it vouches only for
plans that were built there.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional, Sequence, Tuple

from pydantic import Field

from edge_runtime.config import Layer, Settings, environment_layer, merged, validated
from edge_runtime.errors import ConfigError, PlanCorruptError, PlanUntrustedError
from edge_runtime.plan.contents import opened
from edge_runtime.plan.envelope import Envelope
from edge_runtime.plan.keys import ROLES, PublicKey, public_key_from_text

SECTION = "trust"
FOLDER = "/etc/edge-runtime/trusted.d"
PLAN_KEY = "/etc/edge-runtime/plan.key"

_MAX_NBYTES = 64 << 10


class TrustSettings(Settings):
    """Table `[trust]`: what plans must have before they are loaded."""

    require_signed: bool = Field(False, description="Refuse plans that no trusted key signed.")
    folder: str = Field(FOLDER, description="Folder of the public keys (*.pub) that are trusted.")
    floor: Optional[str] = Field(
        None,
        description="File with the highest version of each model that was found good; older ones are refused "
        '(default: floor.json in $STATE_DIRECTORY, if that is set; none: "").',
    )
    plan_key: str = Field(
        PLAN_KEY, description="File with the key of encrypted plans, a credential plan.key of systemd before it."
    )


@dataclass(frozen=True)
class TrustPolicy:
    """What is asked of a plan before it is loaded. A signature that is there is always verified.

    `floor` is the file of the lowest versions that may be loaded; None: any may.
    """

    require_signed: bool = False
    folder: Path = Path(FOLDER)
    floor: Path | None = None

    @property
    def keys(self) -> Tuple[PublicKey, ...]:
        """The keys that are trusted now.

        Raises:
            ConfigError: one can't be read or isn't a key, or somebody who shouldn't could change them.
        """
        return trusted_keys(self.folder, is_strict=self.require_signed)


def trust_settings(environ: Mapping[str, str] = os.environ, table: Layer | None = None) -> TrustSettings:
    """What the table and then the variables `EDGE_RUNTIME_TRUST__KEY` say.

    Raises:
        ConfigError: one is wrong.
    """
    variables = environment_layer(environ, (SECTION,)).get(SECTION, {})
    return validated(TrustSettings, merged(table or {}, variables), f"[{SECTION}]")


def trust_policy(environ: Mapping[str, str] = os.environ, table: Layer | None = None) -> TrustPolicy:
    """The policy of this process.

    Raises:
        ConfigError: a setting is wrong.
    """
    settings = trust_settings(environ, table)
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    floor = settings.floor if settings.floor is not None else state and str(Path(state, "floor.json"))
    return TrustPolicy(settings.require_signed, Path(settings.folder), Path(floor) if floor else None)


def trusted_keys(folder: Path, is_strict: bool = False) -> Tuple[PublicKey, ...]:
    """The keys in a folder's `*.pub` files; none if it isn't there.

    Nobody but root and this user may write folder and files; with `is_strict` this user may neither, unless it is
    root: a service that could change whom it trusts would trust whoever takes it over.

    Raises:
        ConfigError: one can't be read or isn't a key, or somebody who shouldn't could change them.
    """
    try:
        if not folder.is_dir():
            return ()
        place = folder.resolve()
        paths = sorted(place.glob("*.pub"))
        for path in (place, *(path for path in paths if not path.is_symlink())):  # which isn't read
            _check_owner(path, is_strict)
        for path in place.parents if is_strict else ():
            _check_owner(path, is_strict, is_above=True)
    except OSError as error:
        raise ConfigError(f"trust folder {folder}: can't be read ({error.strerror})") from None
    keys = [_read_key(path) for path in paths]
    for number, key in enumerate(keys):
        if any(other.raw == key.raw for other in keys[:number]):
            raise ConfigError(f"trust folder {folder}: key {key.name!r} is there twice; remove one of its files")
    return tuple(keys)


def _read_key(path: Path) -> PublicKey:
    try:
        with opened(path) as file:
            text = file.read(_MAX_NBYTES).decode()
    except UnicodeDecodeError:
        text = ""
    except PlanCorruptError:
        raise ConfigError(f"trusted key {path}: can't be read; expected a file that is no link") from None
    return public_key_from_text(text, f"trusted key {path}")


def _check_owner(path: Path, is_strict: bool, is_above: bool = False) -> None:
    status, user = path.lstat(), os.geteuid()
    owners = {0} if is_strict else {0, user}
    open_to_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if is_above and status.st_mode & stat.S_ISVTX:
        open_to_others = 0  # as /tmp: what is in it can't be replaced by others
    if status.st_uid not in owners or open_to_others:
        raise ConfigError(
            f"trust folder: {path}: expected it to belong to root{'' if is_strict else ' or to this user'} and nobody "
            f"else to write it, got owner {status.st_uid} and mode {stat.S_IMODE(status.st_mode):o}; "
            f"chown root {path}; chmod go-w {path}"
        )


def signer_of(envelope: Envelope, policy: TrustPolicy, what: str, roles: Sequence[str] = ROLES) -> PublicKey:
    """The first of the trusted keys that signed an envelope, which has one of the `roles`; `what` names the envelope.

    A signature of a key that isn't trusted counts for nothing; a wrong one of a key that is refuses the envelope.

    Raises:
        PlanUntrustedError: no trusted key signed it, none of these roles, or a signature is wrong.
        ConfigError: a trusted key can't be read or isn't a key, or somebody who shouldn't could change them.
    """
    keys = policy.keys
    by_id = {key.id: key for key in keys}
    signers = []
    for one in envelope.signatures:
        key = by_id.get(one.key_id)
        if key is None:
            continue
        if not key.is_signature(one.signature, envelope.signed_bytes):
            raise PlanUntrustedError(
                f"{what}: the signature of key {key.name!r} is wrong: these aren't the bytes that it signed; "
                "get them again from whom they came, or sign again"
            )
        signers.append(key)
    for key in signers:
        if key.role in roles:
            return key
    if signers:
        raise PlanUntrustedError(
            f"{what}: expected a signature of a key with role {' or '.join(roles)}, "
            f"got one of {signers[0].name!r}, whose role is {signers[0].role}"
        )
    ids = ", ".join(f"{one.key_id[:12]}…" for one in envelope.signatures)
    known = f"{policy.folder} has {', '.join(key.name for key in keys)}" if keys else f"{policy.folder} has no key"
    raise PlanUntrustedError(
        f"{what}: signed by key {ids}, which isn't trusted: {known}; if it should be, put its public key (NAME.pub) "
        "there, or name another folder by EDGE_RUNTIME_TRUST__FOLDER"
    )
