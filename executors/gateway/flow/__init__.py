"""Requests on their way through the Flow, and its health; imports access."""
