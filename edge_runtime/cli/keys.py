"""The options by which verbs are told which key to use; keys themselves are never on a command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import typer

if TYPE_CHECKING:
    from edge_runtime.plan.plan_key import PlanKey
    from edge_runtime.plan.store import Signer
    from edge_runtime.plan.trust import TrustPolicy

CREDENTIAL = "signing.key"


def key_option(name: str, text: str) -> Any:
    """An option that names the file of a private key."""
    return typer.Option(
        None,
        name,
        metavar="FILE",
        readable=False,  # where there is a credential, the file may be root's alone
        help=f"{text} (mode 600; a credential {CREDENTIAL} of systemd comes before it).",
    )


def signer_of(key: Optional[Path]) -> Optional[Signer]:
    """What signs with the key of a file; None without one.

    Raises:
        ConfigError: it isn't there, others could read it, or it isn't a key.
    """
    from edge_runtime.plan.keys import find_private_key
    from edge_runtime.plan.signature import signer

    return None if key is None else signer(find_private_key(CREDENTIAL, key))


def policy_of(folder: Optional[str]) -> TrustPolicy:
    """The policy of this process, with another trust folder if one is named.

    Raises:
        ConfigError: a setting is wrong.
    """
    from edge_runtime.plan.trust import trust_policy

    policy = trust_policy()
    return policy if folder is None else replace(policy, folder=Path(folder))


def seal_of(is_wanted: bool) -> Optional[PlanKey]:
    """This device's key, if plans are to be encrypted.

    Raises:
        ConfigError: it isn't there, others could read it, or it isn't a key.
    """
    from edge_runtime.plan.plan_key import plan_key

    return plan_key() if is_wanted else None
