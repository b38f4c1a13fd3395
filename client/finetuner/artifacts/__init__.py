"""Published models: files, integrity, zips and lookup by name; may import `onnx` and the floors below it."""
