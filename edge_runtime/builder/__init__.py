"""From an ONNX model and a recipe to a published plan."""
