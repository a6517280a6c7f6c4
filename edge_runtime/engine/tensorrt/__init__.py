"""Plans of TensorRT that run: one owner of the engine, and slots with a context and a stream each."""
