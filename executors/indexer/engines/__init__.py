"""Where vectors are kept: one small interface, Qdrant's engine in this process or on a server behind it."""
