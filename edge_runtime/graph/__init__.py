"""ONNX models: checked, reshaped, made portable, quantised. The only package that imports onnx."""
