"""A trained detector outside of its run folder: an ONNX file that is proven equal, its speed, a local HTTP service."""
