"""Which version of a Triton model is taken."""

from __future__ import annotations

from typing import Collection, List, Tuple

from edge_runtime.errors import ConfigError
from edge_runtime.provisioning.triton.fates import Fate, honoured, lost
from edge_runtime.wire.model_config import ModelConfig


def chosen_version(config: ModelConfig, versions: Collection[int]) -> Tuple[int, Fate]:
    """The highest version that `version_policy` has served, and what becomes of that field.

    Raises:
        ConfigError: there is none.
    """
    served = _served(config, versions)
    if not served:
        wanted = ", ".join(map(str, config.message.version_policy.specific.versions)) or "any"
        there = ", ".join(map(str, sorted(versions))) or "none"
        raise ConfigError(f"no version to take: version_policy wants {wanted}, folders that are numbers: {there}")
    version = max(served)
    if len(served) > 1:
        others = ", ".join(str(one) for one in sorted(served) if one != version)
        return version, lost(f"one version is served, {version}; import {others} as models of other names")
    if version == 1:
        return version, honoured("version 1")
    return version, lost(f"version {version} is taken, and numbered anew from 1 on; clients must not ask for {version}")


def _served(config: ModelConfig, versions: Collection[int]) -> List[int]:
    policy = config.message.version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        return sorted(set(policy.specific.versions) & set(versions))
    if choice == "all":
        return sorted(versions)
    return sorted(versions)[-max(1, policy.latest.num_versions) :]
