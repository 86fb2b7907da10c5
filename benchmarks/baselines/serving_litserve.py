"""LitServe 0.2 on digits: a PNG in base64 in JSON. python serving_litserve.py MODEL.zip PORT"""

import base64
import io
import os
import sys

import litserve
import numpy as np
from PIL import Image
from serving_model import LARGEST, load, say


class Digits(litserve.LitAPI):
    def setup(self, device):
        self.classify = load(os.environ['MODEL'])

    def decode_request(self, request):
        image = Image.open(io.BytesIO(base64.b64decode(request['image']))).convert('L').resize((8, 8))
        return np.asarray(image)[..., None]

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, images):
        return self.classify(images)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return say(output)


if __name__ == '__main__':
    os.environ['MODEL'] = sys.argv[1]
    server = litserve.LitServer(Digits(max_batch_size=LARGEST, batch_timeout=0.002), accelerator='cpu', timeout=30)
    server.run(host='127.0.0.1', port=int(sys.argv[2]), generate_client_file=False, log_level='warning')
