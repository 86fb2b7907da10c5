"""Train steps of FCN and U-Net with PyTorch on the CPU, as a baseline for speed.

  python fcn_unet_torch.py --model fcn --batch 8

Prints one JSON line per line it reads from standard input, each the milliseconds per step of as many steps as the line
says, so that the caller can alternate it with other frameworks. Eager PyTorch in its fastest form for these models:
channels_last memory. The layers are those of models/fcn.py and models/unet.py.
"""

import argparse

import torch
import torch_steps
from torch import nn
from torch.nn import functional


def pad_same(x):
    """What SAME padding adds before a 5x5 convolution of stride 2 over even sides."""
    return functional.pad(x, (1, 2, 1, 2))


class FCN(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 100, 5, 2)
        self.conv2 = nn.Conv2d(100, 200, 5, 2)
        self.conv3 = nn.Conv2d(200, 300, 3, padding=1)
        self.conv4 = nn.Conv2d(300, 300, 3, padding=1)
        self.score = nn.Conv2d(300, classes, 1)
        self.upsample = nn.ConvTranspose2d(classes, classes, 31, 16, padding=8, output_padding=1)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv1(pad_same(x))), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(pad_same(x))), 2)
        x = functional.relu(self.conv4(functional.relu(self.conv3(x))))
        return self.upsample(self.score(x))


class Block(nn.Sequential):
    def __init__(self, inputs, outputs):
        layers = []
        for channels in (inputs, outputs):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs),
                       nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    def __init__(self, classes, features, stem_stride):
        super().__init__()
        self.stem_stride = stem_stride
        inputs = (stem_stride ** 2, *features)
        self.down = nn.ModuleList(Block(i, o) for i, o in zip(inputs, features))
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in zip(features[1:], features))
        self.up = nn.ModuleList(Block(2 * o, o) for o in features[:-1])
        self.logits = nn.ConvTranspose2d(features[0], classes, stem_stride, stem_stride)

    def forward(self, x):
        x = functional.pixel_unshuffle(x, self.stem_stride)
        skips = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for upsample, block, skip in reversed(list(zip(self.upsample, self.up, skips))):
            x = block(torch.cat([skip, upsample(x)], dim=1))
        return self.logits(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', choices=('fcn', 'unet'), required=True)
    parser.add_argument('--batch', type=int, required=True)
    parser.add_argument('--size', type=int, default=256)
    parser.add_argument('--features', type=int, nargs='+', default=(16, 32, 64, 128, 256))
    parser.add_argument('--stem_stride', type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = FCN(2) if args.model == 'fcn' else UNet(2, tuple(args.features), args.stem_stride)
    model = model.to(memory_format=torch.channels_last)
    images = torch.rand(args.batch, 1, args.size, args.size).contiguous(memory_format=torch.channels_last)
    labels = (images[:, 0] > 0.5).long()
    torch_steps.answer(model, images, labels)


if __name__ == '__main__':
    main()
