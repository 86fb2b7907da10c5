"""The detector of experiments/bccd_detector.py in PyTorch on the CPU, as a baseline for speed.

Reads lines 'train STEPS', 'predict STEPS' and 'nms STEPS' from standard input and answers each with JSON, so
that the caller can alternate it with other frameworks: {'ms' per step, 'parameters', 'nms': whose}. Eager PyTorch in
its fastest form for this network: channels_last memory. The layers are those of models/resnet.py and
models/detector.py, the loss that of tasks/detection.py, without its crowds.
"""

import argparse
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional

try:
    from torchvision.ops import batched_nms
except (ImportError, RuntimeError):  # not there, or made for another build of torch
    batched_nms = None

CLASSES, CANDIDATES, STRIDE = 3, 300, 8


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential() if stride == 1 else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=True)


class Detector(nn.Module):
    def __init__(self, width=16, head=64):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1), Block(width, width, 1), Block(width, width, 1), Block(width, 2 * width, 2),
            Block(2 * width, 2 * width, 1))
        self.tower = nn.Sequential(
            nn.BatchNorm2d(2 * width), nn.Conv2d(2 * width, head, 3, padding=1, bias=False), nn.BatchNorm2d(head),
            nn.ReLU(inplace=True), nn.Conv2d(head, head, 3, padding=1, bias=False), nn.BatchNorm2d(head),
            nn.ReLU(inplace=True))
        self.logits, self.distances = nn.Conv2d(head, CLASSES, 1), nn.Conv2d(head, 4, 1)

    def forward(self, x):
        x = self.tower(self.body(x))
        logits, raw = (layer(x).flatten(2).transpose(1, 2) for layer in (self.logits, self.distances))
        return logits, 2 * STRIDE * functional.softplus(raw)


def area(boxes):
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def overlap(first, second):
    common = area(torch.cat([torch.maximum(first[..., :2], second[..., :2]),
                             torch.minimum(first[..., 2:], second[..., 2:])], -1))
    union = area(first) + area(second) - common
    around = area(torch.cat([torch.minimum(first[..., :2], second[..., :2]),
                             torch.maximum(first[..., 2:], second[..., 2:])], -1))
    iou = common / union.clamp(min=1e-9)
    return iou, iou - (around - union) / around.clamp(min=1e-9)


def loss_of(logits, distances, boxes, labels, centres):
    """The loss 'object' of tasks/detection.py, the mean over images."""
    valid = labels >= 0
    sides = boxes[..., 2:] - boxes[..., :2]
    half = torch.minimum(sides, (0.4 * sides).clamp(min=1.5 * STRIDE)) / 2
    away = (centres - ((boxes[..., :2] + boxes[..., 2:]) / 2)[:, :, None]).abs()  # [batch, boxes, cells, 2]
    inside = (away <= half[:, :, None]).all(-1)
    nearest = functional.one_hot(away.square().sum(-1).argmin(-1), len(centres)).bool()
    inside = torch.where(inside.any(-1, keepdim=True), inside, nearest) & valid[..., None]
    owner = torch.where(inside, area(boxes)[..., None], torch.inf).argmin(1)  # [batch, cells]
    positive = inside.any(1)
    cells = functional.one_hot(owner, boxes.shape[1]).mul(positive[..., None]).sum(1)
    share = torch.where(positive, 1 / cells.clamp(min=1).gather(1, owner), 0.0)
    objects, positives = valid.sum(1).clamp(min=1), positive.sum(1).clamp(min=1)
    found = torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], -1)
    goal = torch.where(positive[..., None], boxes.gather(1, owner[..., None].expand(-1, -1, 4)), found)
    iou, giou = overlap(found, goal)
    weight = share * (positives / objects)[:, None]
    label = functional.one_hot(labels.gather(1, owner).clamp(min=0), CLASSES) * positive[..., None]
    quality = label * iou.detach()[..., None]
    focal = (quality - logits.sigmoid()).square() * functional.binary_cross_entropy_with_logits(
        logits, quality, reduction='none')
    focal = torch.where(label > 0, focal * weight[..., None], focal)
    return ((focal.sum((1, 2)) + (weight * (1 - giou)).sum(1)) / positives).mean()


def suppress(boxes, scores, classes):
    """torchvision's NMS, or without it the loop over boxes in their order, on one matrix of overlaps."""
    if batched_nms is not None:
        return batched_nms(boxes, scores, classes, 0.5)
    removes = (overlap(boxes[:, None], boxes[None])[0] > 0.5) & (classes[:, None] == classes)
    removes, kept = removes.numpy(), []
    for i in range(len(boxes)):
        if not removes[i, kept].any():
            kept.append(i)
    return torch.tensor(kept)


def decode(logits, distances, centres):
    found = []
    for one, sides in zip(logits.sigmoid(), distances):
        scores, places = one.flatten().topk(CANDIDATES)
        cell, classes = places // CLASSES, places % CLASSES
        boxes = torch.cat([centres[cell] - sides[cell, :2], centres[cell] + sides[cell, 2:]], -1)
        kept = suppress(boxes, scores, classes)[:100]
        found.append((boxes[kept], scores[kept], classes[kept]))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--size', type=int, nargs=2, default=(240, 320))
    parser.add_argument('--boxes', type=int, default=15, help='of an image, of 40 that there is room for')
    args = parser.parse_args()
    torch.manual_seed(0)
    model = Detector().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-2)
    height, width = args.size
    images = torch.rand(args.batch, 3, height, width).contiguous(memory_format=torch.channels_last)
    y, x = torch.meshgrid(torch.arange(height // STRIDE), torch.arange(width // STRIDE), indexing='ij')
    centres = STRIDE * (torch.stack([x, y], -1).reshape(-1, 2) + 0.5)
    corners = torch.rand(args.batch, 40, 2) * torch.tensor([width - 40, height - 40])
    boxes = torch.cat([corners, corners + 10 + 30 * torch.rand(args.batch, 40, 2)], -1)
    labels = torch.where(torch.arange(40) < args.boxes, torch.randint(CLASSES, (args.batch, 40)), -1)

    def train():
        optimizer.zero_grad(set_to_none=True)
        loss_of(*model(images), boxes, labels, centres).backward()
        optimizer.step()

    @torch.no_grad()
    def predict():
        decode(*model(images), centres)

    noise = 3 * torch.randn(args.batch, len(centres), CLASSES), 8 + 32 * torch.rand(args.batch, len(centres), 4)
    ways = {'train': (model.train, train), 'predict': (model.eval, predict),
            'nms': (model.eval, lambda: decode(*noise, centres))}
    for line in sys.stdin:
        what, steps = line.split()
        prepare, step = ways[what]
        prepare()
        begin = time.perf_counter()
        for _ in range(int(steps)):
            step()
        print(json.dumps({'ms': 1e3 * (time.perf_counter() - begin) / int(steps),
                          'parameters': sum(parameter.numel() for parameter in model.parameters()),
                          'nms': 'torchvision' if batched_nms else 'a loop'}), flush=True)


if __name__ == '__main__':
    main()
