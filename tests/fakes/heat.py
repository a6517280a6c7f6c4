"""Made-up heat over real samples: no recording of a board that throttles was found (jetson.md, section 4)."""

from __future__ import annotations

from dataclasses import replace

from edge_runtime.device.telemetry.sample import Stamped

MADE_UP = "a heat ramp and cooling alerts"


def heat_ramp(samples, trips_c, c_per_s, device="gpu-throttle-alert"):
    """`samples` whose zones with a trip point warm up by `c_per_s`, and a cooling device that acts above it."""
    hot = []
    for stamped in samples:
        rise_c = c_per_s * (stamped.at_ns - samples[0].at_ns) / 1e9
        temps_c = {
            zone: temp_c + rise_c if zone in trips_c and temp_c is not None else temp_c
            for zone, temp_c in stamped.sample.temps_c.items()
        }
        over = any((temps_c.get(zone) or 0) >= trip_c for zone, trip_c in trips_c.items())
        sample = replace(stamped.sample, temps_c=temps_c, trips_c=trips_c, cooling={device: int(over), "pwm-fan": 3})
        hot.append(Stamped(stamped.at_ns, sample))
    return hot
