"""Models and embeddings on this machine; may import `artifacts` and the floors below it, and never imports jina."""
