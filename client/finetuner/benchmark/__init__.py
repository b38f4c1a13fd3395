"""`finetuner benchmark`: scores models on public sets; may import api, flow and the modules below them."""
