"""The contract between client and server: endpoints, run states, parameters and checks; imports only exceptions."""
