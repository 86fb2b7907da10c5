"""Train steps of convolutional networks with PyTorch, as a baseline for speed.

  python cnn_torch.py --model resnet50 --batch 8 --size 224
  python cnn_torch.py --model resnet50 --batch 256 --size 224 --device cuda --precision bfloat16 --compile

Prints one JSON line per line it reads from standard input, each the milliseconds per step of as many steps as the line
says, so that the caller can alternate it with other frameworks. PyTorch in its fastest form for these models:
channels_last memory, on a CPU eager, on a GPU compiled, with bfloat16 by autocast and TF32 for the rest. The networks
are torchvision's, but for the ResNet-20 of CIFAR-10, which it has not.
"""

import argparse

import torch
import torch_steps
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.rest = outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.rest:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.rest))
        return functional.relu(y + x)


def resnet20(num_classes):
    widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
                         *(Block(i, o) for i, o in zip(widths, widths[1:])),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


def build(name, num_classes):
    if name == 'resnet20':
        return resnet20(num_classes)
    import torchvision
    fields = {'init_weights': False, 'aux_logits': False} if name == 'googlenet' else {}
    return getattr(torchvision.models, name)(num_classes=num_classes, **fields)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', required=True, help='resnet20 or a name in torchvision.models')
    parser.add_argument('--batch', type=int, required=True)
    parser.add_argument('--size', type=int, required=True)
    parser.add_argument('--num_classes', type=int, default=1000)
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--precision', choices=('float32', 'bfloat16'), default='float32')
    parser.add_argument('--momentum', type=float, default=0.0)
    parser.add_argument('--compile', action='store_true')
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # takes the fastest convolutions, as XLA does
    torch.set_float32_matmul_precision('high')  # TF32, as JAX does by default
    model = build(args.model, args.num_classes).to(args.device, memory_format=torch.channels_last)
    images = torch.rand(args.batch, 3, args.size, args.size, device=args.device)
    labels = torch.arange(args.batch, device=args.device) % args.num_classes
    if args.compile:
        model.compile()
    torch_steps.answer(model, images.contiguous(memory_format=torch.channels_last), labels, momentum=args.momentum,
                       precision=args.precision)


if __name__ == '__main__':
    main()
