"""The Flow's door: gRPC and HTTP side by side, one token, health that asks the models."""
