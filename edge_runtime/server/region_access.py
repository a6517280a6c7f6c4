"""Who may use the regions that clients share, and how long one request keeps them."""

from __future__ import annotations

import threading
from typing import Any, Dict, Sequence, Tuple

from edge_runtime.errors import InvalidRequestError, TooLargeError, UnsupportedError
from edge_runtime.server.client_regions import ClientRegion, ClientRegions
from edge_runtime.wire.inference import Array, RegionPlace, clipped

_OFF = "system shared memory is off here; the server's flag --allow-client-shm switches it on"


class RegionAccess:
    """What the clients of one listener may do with regions: nothing, where shared memory is off (None).

    `limit` is how many bytes the inputs of one request may have in regions.
    """

    def __init__(self, regions: ClientRegions | None, limit: int) -> None:
        self._regions = regions
        self._limit = limit

    @property
    def is_on(self) -> bool:
        """Whether they may register some."""
        return self._regions is not None

    @property
    def table(self) -> ClientRegions:
        """The regions.

        Raises:
            UnsupportedError: shared memory is off.
        """
        if self._regions is None:
            raise UnsupportedError(_OFF)
        return self._regions

    def use(self) -> RegionUse:
        """The regions for one request, which closes it when it has its answer, or needs none."""
        return RegionUse(self._regions, self._limit)


NO_REGIONS = RegionAccess(None, 0)


class RegionUse:
    """The regions that one request uses, which stay until it is closed; on any thread."""

    __slots__ = ("_held", "_is_closed", "_left", "_limit", "_lock", "_regions")

    def __init__(self, regions: ClientRegions | None, limit: int) -> None:
        self._regions = regions
        self._limit = self._left = limit
        self._held: Dict[str, ClientRegion] = {}
        self._is_closed = False
        self._lock = threading.Lock()  # holds off `close` while a region is used

    def __enter__(self) -> RegionUse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, place: RegionPlace) -> Any:
        """A copy of the bytes there, which nobody else has.

        Raises:
            UnknownNameError: there is no such region.
            InvalidRequestError: the place isn't inside it, the object has become smaller, or shared memory is off.
            TooLargeError: the request has more than the server takes.
        """
        with self._lock:
            region = self._region(place)
            self._left -= place.nbytes
            if self._left < 0:
                raise TooLargeError(f"the inputs in regions have more than the {self._limit} bytes of a request")
            return region.read(place)

    def hold(self, place: RegionPlace) -> None:
        """Keeps the region there for `write`.

        Raises:
            UnknownNameError: there is no such region.
            InvalidRequestError: the place isn't inside it, or shared memory is off.
        """
        with self._lock:
            self._region(place)

    def write(self, pieces: Sequence[Tuple[RegionPlace, Array]]) -> None:
        """Writes arrays, each to a place that was held and is large enough; nothing once this is closed.

        Raises:
            InvalidRequestError: an object has become smaller, or there is no memory behind it.
        """
        with self._lock:
            if self._is_closed:
                return
            for place, array in pieces:
                self._held[place.region].check_object(place, array.nbytes)
            for place, array in pieces:
                self._held[place.region].write(place, array)

    def close(self) -> None:
        """Lets the regions go; idempotent."""
        if self._is_closed:
            return
        with self._lock:
            self._is_closed = True
            for region in self._held.values():
                region.release()
            self._held.clear()

    def _region(self, place: RegionPlace) -> ClientRegion:
        if self._is_closed:  # its client went away while another thread still reads the request
            raise InvalidRequestError(f"region {clipped(place.region)}: the request was given up")
        region = self._held.get(place.region)
        if region is None:
            if self._regions is None:
                raise InvalidRequestError(_OFF)
            region = self._regions.find(place.region)
            region.check(place)
            region.hold()
            self._held[place.region] = region
        else:
            region.check(place)
        return region
