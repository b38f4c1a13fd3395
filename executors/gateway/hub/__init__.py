"""The hub that DocumentArray.push and pull use; imports access, flow and artifacts."""
