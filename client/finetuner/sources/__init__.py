"""Users' files as documents: CSV, folders of images, shards; imports only documents, contract and exceptions."""
