"""ONNX files of models: export, quantise and run them; may import evaluation and the modules below it."""
