"""Plans that are asked for anew: the server writes none itself, the build service does when it finds a request."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Callable

from edge_runtime.plan.names import check_model_name

logger = logging.getLogger(__name__)


class Rebuilds:
    """Asks the build service for plans, by a file with the model's name in its folder of requests.

    Args:
        requests: that folder.
        progress: what the service says of a model that it builds; "" if nothing. It may read files.
    """

    def __init__(self, requests: Path, progress: Callable[[str], str]) -> None:
        self._requests = requests
        self.progress = progress

    def ask(self, name: str) -> bool:
        """Asks for a plan of a model, once more if it was asked for before; False if that can't be done."""
        path = self._requests / check_model_name(name)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644))
        except OSError as error:
            logger.error("%s: can't ask for a plan (%s); build it by hand: edge-runtime build", path, error.strerror)
            return False
        logger.warning("model %s: a plan for this board was asked for (%s)", name, path)
        return True
