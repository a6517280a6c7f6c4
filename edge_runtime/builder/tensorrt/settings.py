"""`[backend]` held against the TensorRT that there is, before anything is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge_runtime.builder.recipe import BackendTable
from edge_runtime.builder.tensorrt.child import BuildChild, ChildOptions
from edge_runtime.builder.tensorrt.form import STRONG, WEAK, Form
from edge_runtime.builder.tensorrt.graphs import NetworkInputs
from edge_runtime.builder.tensorrt.orders import Orders
from edge_runtime.graph.model import model_from_bytes
from edge_runtime.graph.specimen import elementwise
from edge_runtime.tensorrt_api import Capability
from edge_runtime.tensors import ShapeRange


def check_settings(orders: Orders, folder: Path) -> None:
    """Has a child make the configuration of a small network with the recipe's settings; nothing is built.

    Raises:
        BackendUnavailableError: this TensorRT can't do something that is asked for, or finds no such device.
        ConfigError: a setting is wrong.
        EdgeRuntimeError: anything else that a build would fail by.
    """
    if orders.table.int8 == "implicit" and orders.job.policy in ("auto", "int8") and not orders.job.int8_problem:
        orders.form("int8")
    if not _needs_library(orders.table):
        return
    given = NetworkInputs(model_from_bytes(elementwise(), "settings"))
    form = Form(STRONG if orders.library.has(Capability.ALWAYS_STRONG) else WEAK)
    request = orders.request(given, form, folder / "settings.plan")
    check = replace(request, profile={"x": ShapeRange.fixed((1,))}, is_check=True)
    BuildChild(check.to_json(), ChildOptions()).result()


def _needs_library(table: BackendTable) -> bool:
    """Whether something is set that only TensorRT knows; a build with none of it loses no time here."""
    named = (table.device, table.compute_capabilities, table.plugins, table.version_compatible)
    return any(named) or table.hardware_compatibility != "none"
