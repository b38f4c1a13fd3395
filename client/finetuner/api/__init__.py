"""The client's calls to a Flow; may import `inference` and the layers below it, and jina in `hub_executor` only."""
