"""LitServe around open_clip, as its documentation has it, for serve_speed.py: FOLDER PORT BATCH KIND."""

import base64
import io
import sys

import litserve
import open_clip
import torch
from PIL import Image

folder, port, batch, kind = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


class Api(litserve.LitAPI):
    def setup(self, device):
        torch.set_num_threads(1)
        weights = f"{folder}/weights/random.pt"
        self.model, _, self.preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained=weights)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer("ViT-B-32")

    def decode_request(self, request):
        if kind == "text":
            return self.tokenizer(request["text"])[0]
        return self.preprocess(Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB"))

    def batch(self, inputs):
        return torch.stack(list(inputs))

    def predict(self, inputs):
        with torch.inference_mode():
            encode = self.model.encode_text if kind == "text" else self.model.encode_image
            return encode(inputs, normalize=True)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"embedding": output.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Api(max_batch_size=batch, batch_timeout=0.01), accelerator="cpu").run(
        port=port, generate_client_file=False
    )
