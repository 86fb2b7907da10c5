"""Caption decoding and VGG-16 features with PyTorch on the CPU, as a baseline for speed.

  python caption_torch.py greedy --rows 64
  python caption_torch.py beam_search --rows 64 --beam_size 3
  python caption_torch.py vgg16 --rows 8

Prints one JSON line per line it reads from standard input, each the milliseconds per batch of as many batches as the
line says. Decoding begins with images' features of lstm_torch.Captioner and always takes all steps, by nn.LSTM or
nn.LSTMCell, whichever is faster; the convolutions are in channels_last memory.
"""

import argparse
import functools
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
import lstm_torch  # noqa: E402

START, END = 1, 2
CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def recurrences(model):
    """Returns the two ways to take one step of a captioner of one layer: nn.LSTM and nn.LSTMCell.

    Which is faster depends on the number of rows: 20 times for a single one, the other way round for 64.

    Returns:
      Name -> function of inputs [rows, size] and (h, c), each [rows, hidden], or None, to the next (h, c).
    """
    cell = nn.LSTMCell(model.lstm.input_size, model.lstm.hidden_size)
    for name in ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'):
        setattr(cell, name, getattr(model.lstm, f'{name}_l0'))

    def lstm(inputs, carry):
        carry = None if carry is None else tuple(values[None] for values in carry)
        return tuple(values[0] for values in model.lstm(inputs[None], carry)[1])
    return {'nn.LSTM': lstm, 'nn.LSTMCell': cell}


def greedy(model, recur, features, length):
    """Returns the likeliest token after each token, int64 [rows, length], PAD after END."""
    carry = recur(model.project(features), None)
    tokens = torch.full((len(features),), START)
    ended = torch.zeros(len(features), dtype=torch.bool)
    chosen = []
    for _ in range(length):
        carry = recur(model.embedding(tokens), carry)
        tokens = model.logits(carry[0]).argmax(-1).masked_fill(ended, lstm_torch.PAD)
        ended |= tokens == END
        chosen.append(tokens)
    return torch.stack(chosen, dim=1)


def beam_search(model, recur, features, length, beam_size):
    """Returns the likeliest sequences found and their log-probabilities, best first.

    Returns:
      int64 [rows, beam_size, length], PAD after END, and float [rows, beam_size].
    """
    rows, vocabulary_size = len(features), model.logits.out_features
    carry = tuple(values.repeat_interleave(beam_size, dim=0) for values in recur(model.project(features), None))
    tokens = torch.full((rows * beam_size,), START)
    scores = torch.full((rows, beam_size), -torch.inf)
    scores[:, 0] = 0.0  # all beams begin alike: only one of them counts
    ended = torch.zeros(rows, beam_size, dtype=torch.bool)
    sequences = torch.zeros(rows, beam_size, 0, dtype=torch.long)
    stay = torch.full((vocabulary_size,), -torch.inf)
    stay[lstm_torch.PAD] = 0.0  # what has ended goes on with PAD and keeps its score
    first = torch.arange(rows)[:, None] * beam_size
    for _ in range(length):
        carry = recur(model.embedding(tokens), carry)
        following = model.logits(carry[0]).log_softmax(-1).view(rows, beam_size, vocabulary_size)
        following = torch.where(ended[..., None], stay, following)
        scores, index = (scores[..., None] + following).flatten(1).topk(beam_size)
        parent, tokens = index // vocabulary_size, index % vocabulary_size
        carry = tuple(values[(first + parent).flatten()] for values in carry)
        ended = ended.gather(1, parent) | (tokens == END)
        sequences = sequences.gather(1, parent[..., None].expand_as(sequences))
        sequences = torch.cat([sequences, tokens[..., None]], dim=-1)
        tokens = tokens.flatten()
    return sequences, scores


@torch.inference_mode()
def faster(model, decode):
    """Returns the recurrence with which decode(recur) takes less time."""
    seconds = {}
    for name, recur in recurrences(model).items():
        decode(recur)
        begin = time.perf_counter()
        for _ in range(3):
            decode(recur)
        seconds[name] = time.perf_counter() - begin
    return recurrences(model)[min(seconds, key=seconds.get)]


class VGG16(nn.Sequential):
    """The convolutions of VGG-16 and the mean over pixels, float [batch, 512]."""

    def __init__(self):
        layers, inputs = [], 3
        for block in CHANNELS:
            for outputs in block:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=('greedy', 'beam_search', 'vgg16'))
    parser.add_argument('--rows', type=int, required=True, help='images')
    parser.add_argument('--vocabulary_size', type=int, default=3000)
    parser.add_argument('--hidden', type=int, default=512)
    parser.add_argument('--embedding', type=int, default=0, help='0: as hidden')
    parser.add_argument('--features', type=int, default=512)
    parser.add_argument('--length', type=int, default=20)
    parser.add_argument('--beam_size', type=int, default=3)
    parser.add_argument('--size', type=int, default=224, help='side of an image in pixels')
    parser.add_argument('--threads', type=int, default=0, help='0: as PyTorch chooses')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.what == 'vgg16':
        model = VGG16().to(memory_format=torch.channels_last).eval()
        images = torch.rand(args.rows, 3, args.size, args.size).contiguous(memory_format=torch.channels_last)
        run = functools.partial(model, images)
    else:
        model = lstm_torch.Captioner(args.vocabulary_size, args.hidden, 1, args.features, embedding=args.embedding)
        model.eval()
        features = torch.rand(args.rows, args.features)
        with torch.no_grad():
            model.logits.bias[:4] = -1e3  # no caption ends, as in ours

        def decode(recur):
            if args.what == 'greedy':
                greedy(model, recur, features, args.length)
            else:
                beam_search(model, recur, features, args.length, args.beam_size)
        run = functools.partial(decode, faster(model, decode))
    step = torch.inference_mode()(run)
    lstm_torch.answer(step, model)


if __name__ == '__main__':
    main()
