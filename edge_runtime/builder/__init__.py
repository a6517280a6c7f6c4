"""From an ONNX model and a recipe to a published plan."""

from edge_runtime.builder.builder import BuildOptions as BuildOptions
from edge_runtime.builder.builder import BuiltPlan as BuiltPlan
from edge_runtime.builder.builder import build as build
from edge_runtime.builder.recipe import Recipe as Recipe
from edge_runtime.builder.recipe import load_recipe as load_recipe

__all__ = ["BuildOptions", "BuiltPlan", "Recipe", "build", "load_recipe"]
