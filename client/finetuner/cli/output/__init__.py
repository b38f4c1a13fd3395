"""What commands print: tables, matches, and a page of results."""
