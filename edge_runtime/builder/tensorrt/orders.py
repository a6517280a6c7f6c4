"""What is asked for of one build, from the recipe, the board and the library that there is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

from edge_runtime.builder.float_model import FloatModel
from edge_runtime.builder.job import Job, Site, plugin_records
from edge_runtime.builder.recipe import BackendTable
from edge_runtime.builder.tensorrt.attempts import Attempts
from edge_runtime.builder.tensorrt.form import Form, Wish, form_of
from edge_runtime.builder.tensorrt.graphs import NetworkInputs
from edge_runtime.builder.tensorrt.ladder import Rung
from edge_runtime.builder.tensorrt.request import BuildRequest, Built
from edge_runtime.builder.tensorrt.workshop import writing
from edge_runtime.errors import ConfigError
from edge_runtime.plan.manifest import PluginRecord, TargetRecord
from edge_runtime.tensorrt_api import RTX, Capability, TensorRT


@dataclass(frozen=True)
class Orders:
    """The builds of one job on one GPU."""

    job: Job
    model: FloatModel
    library: TensorRT
    site: Site
    plugins: Tuple[PluginRecord, ...]

    @property
    def table(self) -> BackendTable:
        """`[backend]` of the recipe."""
        return self.job.recipe.tables.backend

    def form(self, precision: str) -> Form:
        """How a precision is asked for.

        Raises:
            BackendUnavailableError: this TensorRT has no such form.
            UnsupportedModelError: the deep learning accelerator has no such precision.
        """
        rest = self.job.recipe.tables.precision.rest
        wish = Wish(precision, rest, self.table.int8, self.table.dla_core is not None)
        return form_of(wish, self.library.capabilities)

    def carry_out(self, given: NetworkInputs, request: BuildRequest, what: str) -> Tuple[Built, Rung]:
        """Builds, with less memory each time that it runs out; what was built, and with how much.

        Raises:
            EdgeRuntimeError: it can't be built.
        """
        attempts = Attempts(
            given.graph, self.table, self.job.device, self.job.progress, f"{what} with {self.library.text}"
        )
        return attempts.run(request)

    def request(self, given: NetworkInputs, form: Form, plan: Path) -> BuildRequest:
        """The request of a plan that goes to a path; its ONNX is written beside it."""
        table = self.table
        return BuildRequest(
            library=self.library.name,
            onnx=str(_written(given, plan.with_suffix(""))),
            plan=str(plan),
            profile=self.model.profile,
            is_strongly_typed=form.is_typed,
            flags=form.flags,
            optimization_level=table.optimization_level,
            timing_cache=str(self._timing_cache()),
            calibration_cache=given.calibration_cache,
            float_layers=given.float_layers,
            half_layers=given.half_layers,
            nodes=given.graph.node_order if given.float_layers or given.half_layers else (),
            dla_core=table.dla_core,
            device=table.gpu,
            is_version_compatible=table.version_compatible,
            hardware_compatibility=table.hardware_compatibility,
            compute_capabilities=tuple(table.compute_capabilities),
            plugins=tuple(record.path for record in self.plugins),
        )

    def _timing_cache(self) -> Path:
        """The file for this library on this GPU in this power mode; what was timed elsewhere is worth nothing here."""
        facts = [self.library.text, self.job.device.board, self.site, self.table.device]
        key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        return (self.job.options.engines / ".timing" / f"{key}.cache").absolute()

    def target(self, form: Form, given: NetworkInputs, rung: Rung) -> TargetRecord:
        """What ties a plan to this board, what it was built of, and with how much memory."""
        table = self.table
        return TargetRecord(
            form=form.name,
            compute_capability=None if self.library.name == RTX else self.site.gpu.compute_capability,
            gpu=self.site.gpu.name,
            dla_core=table.dla_core,
            l4t=self.job.device.l4t,
            power_mode=self.site.power_mode,
            version_compatible=table.version_compatible,
            hardware_compatibility=table.hardware_compatibility,
            plugins=list(self.plugins),
            shares_profile=not self.library.has(Capability.INDEX_IO) or self.library.has(Capability.PROFILE_SHARING),
            is_reduced=rung.is_reduced,
            nodes=list(given.graph.node_order),
        )


def orders_of(job: Job, model: FloatModel, library: TensorRT) -> Orders:
    """The orders of a job on this board.

    Raises:
        ConfigError: it asks for what this board can't do.
    """
    table = job.recipe.tables.backend
    assert job.site is not None
    if job.device.kind == "jetson" and table.hardware_compatibility != "none":
        raise ConfigError("[backend] hardware_compatibility: plans of a Jetson load on its own kind only; leave it out")
    if table.dla_core is not None:
        for name, limits in model.profile.items():
            if limits.minimum != limits.maximum:
                raise ConfigError(
                    f"[backend] device {table.device!r}: the deep learning accelerator takes one shape of each input, "
                    f"got {limits} for {name!r}; give it one: --shape {name}={'x'.join(map(str, limits.optimum))}"
                )
    return Orders(job, model, library, job.site, tuple(plugin_records(job.recipe)))


def _written(given: NetworkInputs, folder: Path) -> Path:
    files = given.graph.to_files()
    with writing(folder):
        folder.mkdir()
        for name, content in files.items():
            with (folder / name).open("wb") as file:
                file.writelines([content] if isinstance(content, bytes) else content)
    return folder / next(iter(files))
