"""`finetuner doctor`: checks of a machine, a workspace and a Flow; may import api, flow and the modules below them."""
