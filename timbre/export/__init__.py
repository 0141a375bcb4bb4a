"""The networks as ONNX files hold them: without complex numbers, loops or Python around them."""
