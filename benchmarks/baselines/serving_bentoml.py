"""BentoML 1.4 on digits: the pixels as JSON, nothing to decode. bentoml serve serving_bentoml:Digits --port PORT"""

import os

import bentoml
import numpy as np
from serving_model import LARGEST, load


@bentoml.service(traffic={'timeout': 30, 'max_concurrency': 256})
class Digits:
    def __init__(self):
        self.classify_all = load(os.environ['MODEL'])

    @bentoml.api(batchable=True, max_batch_size=LARGEST, max_latency_ms=1000)
    def classify(self, images: np.ndarray) -> np.ndarray:
        return self.classify_all(images.astype(np.uint8))
