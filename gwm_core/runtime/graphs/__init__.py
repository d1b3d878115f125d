"""Networks as graphs: exported to ONNX, compiled once for a machine, run by any runtime."""
