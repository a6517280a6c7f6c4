"""TensorRT plans: the form of a precision, the build in a child process, and what is asked of TensorRT there."""
