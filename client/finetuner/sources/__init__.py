"""Users' files as documents: tables, folders, archives; imports only documents, contract and exceptions."""
