"""What one client may ask of a connection, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Http2Limits:
    """Sizes in bytes, times in seconds; each is per connection unless it says otherwise."""

    max_message_bytes: int = 64 << 20  # one request message, also after it was decompressed
    max_unanswered_bytes: int = 64 << 20  # of large messages that wait; beyond it the client gets no further window
    max_output_bytes: int = 128 << 20  # of answers that the client doesn't take
    max_streams: int = 512  # more than a queue holds: what is too much is refused here rather than kept by the client
    max_stream_requests: int = 16  # under way on one stream of many; the next is taken in when the first is answered
    max_stream_bytes: int = 16 << 20  # of those requests and of answers that wait; beyond it no other is taken in
    max_connections: int = 1024  # of one server
    max_header_list_bytes: int = 16 << 10  # announced; up to twice as much is answered, beyond that is cut off
    max_continuations: int = 16
    max_frame_bytes: int = 1 << 20
    stream_window_bytes: int = 1 << 20
    connection_window_bytes: int = 16 << 20
    idle_timeout_s: float = 30.0  # without a call; also for the preface and half a head
    body_timeout_s: float = 20.0  # from the first byte of a call to the end of its message
    send_timeout_s: float = 20.0  # in which a slow reader must take 64 KiB of what waits for it
    linger_s: float = 2.0  # so long what a client still sends is thrown away, for it to read the GOAWAY
    reset_burst: int = 1000  # calls taken back by the client at once, and a second
    reset_rate: float = 100.0
    control_burst: int = 2000  # PING, SETTINGS and other frames that move no data, at once, and a second
    control_rate: float = 200.0
