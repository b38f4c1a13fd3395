"""Networks and weights of the models; imports only the contract and the modules below it."""
