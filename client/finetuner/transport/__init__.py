"""Connections from the client to a Flow, by gRPC and HTTP; imports contract and exceptions."""
