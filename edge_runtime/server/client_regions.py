"""Memory that clients share with the server by name: Triton's system shared-memory regions.

An object of a client is never mapped: whoever may write it may also make it shorter, and touching what is gone would
end the process. It is read and written by system calls, which say so instead.
"""

from __future__ import annotations

import os
import resource
import threading
from typing import Any, Dict, List

import numpy as np

from edge_runtime.errors import (
    InvalidRequestError,
    NameTakenError,
    TooManyError,
    UnknownNameError,
)
from edge_runtime.server.shared_objects import opened_object
from edge_runtime.wire.inference import Array, RegionPlace, clipped

_MOST_REGIONS = 1000
_MAX_NAME_LENGTH = 200


class ClientRegion:
    """A part of a client's object; its descriptor is closed when nobody holds the region any more."""

    __slots__ = ("_descriptor", "_holders", "_lock", "key", "name", "nbytes", "offset")

    def __init__(self, name: str, key: str, offset: int, nbytes: int, descriptor: int) -> None:
        self.name = name
        self.key = key
        self.offset = offset
        self.nbytes = nbytes
        self._descriptor = descriptor
        self._holders = 1
        self._lock = threading.Lock()

    def hold(self) -> None:
        """One more holds it.

        Raises:
            UnknownNameError: it went when the last one released it.
        """
        with self._lock:
            if not self._holders:
                raise unknown_region(self.name)
            self._holders += 1

    def release(self) -> None:
        """One fewer holds it."""
        with self._lock:
            self._holders -= 1
            is_last = self._holders == 0
        if is_last:
            os.close(self._descriptor)

    def check(self, place: RegionPlace) -> None:
        """Raises InvalidRequestError unless the place is inside."""
        if place.offset > self.nbytes or place.nbytes > self.nbytes - place.offset:
            raise InvalidRequestError(
                f"region {clipped(self.name)}: {place.nbytes} bytes from {place.offset} on aren't inside "
                f"the {self.nbytes} that were registered"
            )

    def read(self, place: RegionPlace) -> Any:
        """A copy of what is there now.

        Raises:
            InvalidRequestError: the object has become smaller.
        """
        view, start, done = np.empty(place.nbytes, np.uint8).data, self.offset + place.offset, 0
        while done < place.nbytes:
            try:
                count = os.preadv(self._descriptor, [view[done:]], start + done)
            except OSError:
                count = 0
            if not count:
                raise self._shrunk()
            done += count
        return view

    def check_object(self, place: RegionPlace, nbytes: int) -> None:
        """Raises InvalidRequestError if the object has become too small for so many bytes at the start of a place."""
        if os.fstat(self._descriptor).st_size < self.offset + place.offset + nbytes:
            raise self._shrunk()

    def write(self, place: RegionPlace, array: Array) -> None:
        """Copies an array to the start of a place that is large enough.

        Raises:
            InvalidRequestError: there is no memory behind the object.
        """
        view = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        start, done = self.offset + place.offset, 0
        while done < len(view):
            try:
                done += os.pwritev(self._descriptor, [view[done:]], start + done)
            except OSError:
                raise InvalidRequestError(f"region {clipped(self.name)}: its object can't be written") from None

    def _shrunk(self) -> InvalidRequestError:
        text = f"region {clipped(self.name)}: its object is smaller now than when it was registered; register it again"
        return InvalidRequestError(text)


class ClientRegions:
    """All regions of a server, by name; changed on the loop's thread.

    Args:
        folder: where the clients' objects are.
        most: so many regions may be there at once.
    """

    def __init__(self, folder: str = "/dev/shm", most: int | None = None) -> None:  # noqa: S108  (it is where they are)
        self._folder = folder
        self._most = most_regions(resource.getrlimit(resource.RLIMIT_NOFILE)[0]) if most is None else most
        self._regions: Dict[str, ClientRegion] = {}

    def register(self, name: str, key: str, offset: int, nbytes: int) -> None:
        """Makes a part of the object `key` known by a name.

        Raises:
            InvalidRequestError: a name or a key of another form, or an object that can't be used, or is smaller.
            NameTakenError: there is a region of that name.
            TooManyError: no more regions are kept.
        """
        if not 0 < len(name) <= _MAX_NAME_LENGTH:
            raise InvalidRequestError(f"region {clipped(name)}: expected a name of 1 to {_MAX_NAME_LENGTH} characters")
        if name in self._regions:
            raise NameTakenError(f"region {clipped(name)} is registered already; unregister it first")
        if len(self._regions) >= self._most:
            raise TooManyError(f"there are {self._most} regions already; unregister one first")
        descriptor = opened_object(self._folder, key, offset, nbytes)
        self._regions[name] = ClientRegion(name, key, offset, nbytes, descriptor)

    def unregister(self, name: str) -> None:
        """Lets no new request use the region of that name, if there is one; those that do go on."""
        region = self._regions.pop(name, None)
        if region is not None:
            region.release()

    def close(self) -> None:
        """Unregisters all; idempotent."""
        for name in list(self._regions):
            self.unregister(name)

    def listed(self, name: str = "") -> List[ClientRegion]:
        """The region of that name; all of them without one.

        Raises:
            UnknownNameError: there is none.
        """
        return [self.find(name)] if name else list(self._regions.values())

    def find(self, name: str) -> ClientRegion:
        """The region of that name.

        Raises:
            UnknownNameError: there is none.
        """
        region = self._regions.get(name)
        if region is None:
            raise unknown_region(name)
        return region


def unknown_region(name: str) -> UnknownNameError:
    """The error that names a region which isn't there."""
    return UnknownNameError(f"unknown region {clipped(name)}; register it first")


def most_regions(most_descriptors: int) -> int:
    """How many regions are kept: each takes a descriptor, and connections need some too."""
    return min(_MOST_REGIONS, max(1, most_descriptors // 2))
