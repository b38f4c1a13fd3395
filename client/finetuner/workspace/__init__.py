"""Durable state: the workspace's folder, datasets and tokens; imports only documents, contract and exceptions."""
