"""The room that keeps documents with their vectors and searches them."""
