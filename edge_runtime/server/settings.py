"""What a server is told: the `server` section of the settings."""

from __future__ import annotations

from typing import Literal, Optional, Tuple

from pydantic import Field

from edge_runtime.config import Settings
from edge_runtime.device.telemetry.board_choice import DESCRIPTION


class ServerSettings(Settings):
    """Addresses, limits and times."""

    http: str = Field("127.0.0.1:8000", description="Address for HTTP; port 0 picks a free one.")
    grpc: str = Field("127.0.0.1:8001", description="Address for gRPC; port 0 picks a free one.")
    unix: Optional[str] = Field(
        None, min_length=1, description="Path of a Unix socket for HTTP, gRPC and shared memory (default: none)."
    )
    allow_client_shm: Optional[bool] = Field(
        None,
        description="Whether clients may share their own memory, as Triton has it "
        "(without it: those on the Unix socket may, those on TCP may not).",
    )
    model_control: bool = Field(False, description="Whether administrators may load and unload models.")
    tokens: Optional[str] = Field(
        None, min_length=1, description="File of the tokens that clients on TCP must have (default: none)."
    )
    tls_certificate: Optional[str] = Field(
        None, min_length=1, description="PEM file of the server's certificate chain: TCP is TLS then (default: none)."
    )
    tls_key: Optional[str] = Field(None, min_length=1, description="PEM file of the certificate's key.")
    tls_client_ca: Optional[str] = Field(
        None, min_length=1, description="PEM file of the authorities that clients' certificates must come from."
    )
    http_transport: Literal["own", "aiohttp"] = Field("own", description="What speaks HTTP.")
    grpc_transport: Literal["own", "grpcio"] = Field("own", description="What speaks gRPC.")
    slots: Optional[int] = Field(
        None, ge=1, le=256, description="Runs at once, each model (without it: the cores, on a GPU 2)."
    )
    engine_process: bool = Field(
        False, description="Whether each model runs in a process of its own, which is replaced when it ends."
    )
    memory: Literal["auto", "mapped", "copy"] = Field("auto", description="Where TensorRT's inputs and outputs lie.")
    graphs: Literal["auto", "off"] = Field("auto", description="Whether TensorRT's runs become CUDA graphs.")
    plugins: Tuple[str, ...] = Field((), description="Libraries of TensorRT plugins that aren't where plans name them.")
    queue_size: int = Field(256, ge=1, description="Requests that may wait for a model; one more is refused.")
    max_request_bytes: int = Field(64 << 20, ge=1024, description="Largest request, in bytes.")
    body_timeout_s: float = Field(20.0, gt=0, description="Longest time for a body to arrive, in seconds.")
    idle_timeout_s: float = Field(
        30.0, gt=0, description="Longest time for an idle connection or half a head, seconds."
    )
    board: str = Field("auto", description=DESCRIPTION)
    board_interval_s: float = Field(1.0, ge=0.02, le=60, description="Time between two samples of the board, seconds.")
    follow: bool = Field(False, description="Whether versions that the store serves anew are loaded by themselves.")
    follow_interval_s: float = Field(1.0, ge=0.05, le=3600, description="Time between two looks at the store, seconds.")
    stay_up: bool = Field(
        False, description="Whether a plan that can't be loaded is stood in for and tried again, and ends no start."
    )
    rebuild_requests: Optional[str] = Field(
        None,
        min_length=1,
        description="Folder in which plans for another board, or damaged ones, are asked for anew (default: none).",
    )
    memory_reserve_mib: int = Field(256, ge=0, description="Memory that must stay free when a model is loaded, MiB.")
    memory_budget_mib: Optional[int] = Field(
        None, ge=1, description="Memory that all models may need, MiB (default: what there is)."
    )
    evict: bool = Field(False, description="Whether idle models give way to others that need their memory.")
    evict_idle_s: float = Field(5.0, gt=0, description="How long a model must be idle to give way, seconds.")
    state: Optional[str] = Field(
        None, min_length=1, description="Folder of what is learnt of models (default: $STATE_DIRECTORY, else none)."
    )
    idle: Literal["off", "release"] = Field(
        "off",
        description="Whether held clocks (jetson_clocks) are released while nobody asks, where that is permitted.",
    )
    idle_after_s: float = Field(60.0, ge=1, description="How long nobody must have asked for that, in seconds.")
    allow_power_changes: bool = Field(
        False, description="Permit the idle policy to change clocks; else it only logs the commands."
    )
    golden_interval_s: float = Field(
        10.0, ge=0.1, le=3600, description="Longest time between two golden runs of a model, seconds."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("WARNING", description="What goes to stderr.")
    log_format: Literal["auto", "text", "json", "journal"] = Field(
        "auto", description="How it is written (auto: text, with priorities where stderr is the journal)."
    )
    drain_s: float = Field(20.0, ge=0, description="Longest time to answer what was taken in, after SIGTERM, seconds.")

    @property
    def is_reloadable(self) -> bool:
        """Whether there is something that a server looks at anew when it is told to."""
        return self.tokens is not None or self.tls_certificate is not None or self.follow or self.stay_up

    @property
    def changes_models(self) -> bool:
        """Whether other models, or versions, may be loaded while the server runs."""
        return self.model_control or self.follow or self.stay_up or self.evict
