"""LSTM language model and captioner with PyTorch on the CPU, as a baseline for speed and for perplexity.

  python lstm_torch.py language_model --vocabulary_size 10000 --hidden 200 --layers 2 --batch 20 --num_steps 20
  python lstm_torch.py captioner --vocabulary_size 3000 --hidden 512 --layers 1 --images 16 --captions 5 --num_steps 21

Prints one JSON line per line it reads from standard input, each the milliseconds per step of as many steps as the line
says, so that the caller can alternate it with other frameworks. Eager PyTorch in its fastest form for these models:
nn.LSTM over whole windows, steps before rows in memory, fused SGD.

The networks have the parameters of models/lstm.py and models/captioner.py. nn.LSTM adds two biases, of which one, of
the recurrent side, is zero and does not learn: the gradients of both are equal, so that with both learning their sum
would learn at twice the learning rate.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

PAD = 0  # targets that are not scored


class Sequences(nn.Module):
    """Embedding, LSTM layers and a linear layer to the logits of the next token.

    Zaremba, Sutskever and Vinyals 2014, "Recurrent neural network regularization": dropout on what goes up, into the
    first layer, between layers and into the logits, never on what goes on in time.

    Args:
      vocabulary_size, hidden, layers, embedding: sizes; an embedding of 0 is as large as hidden.
      dropout: rate.
      tied: whether the logits' weights are those of the embedding.
      init_scale: weights are drawn from uniform(-init_scale, init_scale), biases are zero; 0: as PyTorch does it.
    """

    def __init__(self, vocabulary_size, hidden, layers, embedding=0, dropout=0.0, tied=False, init_scale=0.0):
        super().__init__()
        embedding = embedding or hidden
        self.embedding = nn.Embedding(vocabulary_size, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(hidden, vocabulary_size)
        if tied:
            self.logits.weight = self.embedding.weight
        if init_scale:
            for name, parameter in self.named_parameters():
                if 'bias' in name:
                    nn.init.zeros_(parameter)
                else:
                    nn.init.uniform_(parameter, -init_scale, init_scale)
        for layer in range(layers):
            bias = getattr(self.lstm, f'bias_hh_l{layer}')
            nn.init.zeros_(bias)
            bias.requires_grad_(False)

    def forward(self, tokens, carry=None):
        """tokens: int [steps, rows]; carry: (h, c), each [layers, rows, hidden]. Returns logits and the new carry."""
        outputs, carry = self.lstm(self.dropout(self.embedding(tokens)), carry)
        return self.logits(self.dropout(outputs)), carry


class LanguageModel(Sequences):
    """With a loss and a state that is carried from window to window."""

    def loss(self, tokens, targets, begin, carry=None):
        """Negative log-likelihood per token of one window.

        Args:
          tokens, targets: int64 [rows, steps]; targets equal to PAD are not scored.
          begin: float [rows], 1 where a row begins anew.
          carry: of the window before, or None.

        Returns:
          The mean, a scalar, and the carry, detached.
        """
        if carry is not None:
            carry = tuple(values * (1 - begin)[None, :, None] for values in carry)
        logits, carry = self(tokens.t(), carry)
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.t().flatten(), ignore_index=PAD)
        return loss, tuple(values.detach() for values in carry)


class Captioner(Sequences):
    """Sees the image as the first input of the LSTM: Vinyals et al. 2015, "Show and tell", section 3.

    models/captioner.py with inject='first': features are normalized to mean 0 and variance 1 before they are projected;
    dropout is on the words' vectors and before the logits, neither on the image nor between layers.

    Args:
      features: size of an image's features.
      **fields: see Sequences.
    """

    def __init__(self, vocabulary_size, hidden, layers, features, **fields):
        super().__init__(vocabulary_size, hidden, layers, **fields)
        self.lstm.dropout = 0.0
        self.normalize = nn.LayerNorm(features, eps=1e-6, elementwise_affine=False)
        self.image = nn.Linear(features, self.embedding.embedding_dim)

    def project(self, features):
        """features: float [rows, size]. Returns the LSTM's first input, [rows, embedding]."""
        return self.image(self.normalize(features))

    def loss(self, features, captions, tokens_per_example):
        """Negative log-likelihood of all captions of an image, divided by a constant; the mean over images.

        Args:
          features: float [images, size].
          captions: int64 [images, captions, length]: <start> w1 ... <end> <pad>...
          tokens_per_example: the constant, tokens that are scored of an image in the mean.
        """
        carry = self.lstm(self.project(features)[None])[1]  # once per image
        carry = tuple(values.repeat_interleave(captions.shape[1], dim=1) for values in carry)
        rows = captions.flatten(0, 1).t()
        logits, _ = self(rows[:-1], carry)
        total = functional.cross_entropy(logits.flatten(0, 1), rows[1:].flatten(), ignore_index=PAD, reduction='sum')
        return total / (len(features) * tokens_per_example)


def learning(model: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters that learn."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer, clip_norm: float) -> None:
    """Takes a step down the gradient of the loss, scaled to at most `clip_norm`; 0: unscaled."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if clip_norm:
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]['params'], clip_norm)
    optimizer.step()


def answer(step: Callable[[], None], model: nn.Module) -> None:
    """Reads numbers of steps from stdin; takes so many and prints {'ms' per step, 'parameters'} for each."""
    parameters = sum(parameter.numel() for parameter in learning(model))
    for line in sys.stdin:
        steps = int(line)
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        milliseconds = 1e3 * (time.perf_counter() - begin) / steps
        print(json.dumps({'ms': milliseconds, 'parameters': parameters, 'torch': torch.__version__}), flush=True)


def language_model_step(args: argparse.Namespace) -> tuple[Callable[[], None], nn.Module]:
    model = LanguageModel(args.vocabulary_size, args.hidden, args.layers, args.embedding, args.dropout, init_scale=0.05)
    optimizer = torch.optim.SGD(learning(model), lr=args.learning_rate, fused=True)
    tokens = torch.randint(4, args.vocabulary_size, (args.batch, args.num_steps + 1))
    begin, carry = torch.zeros(args.batch), None

    def step():
        nonlocal carry
        loss, carry = model.loss(tokens[:, :-1], tokens[:, 1:], begin, carry)
        descend(loss, optimizer, args.clip_norm)
    return step, model


def captioner_step(args: argparse.Namespace) -> tuple[Callable[[], None], nn.Module]:
    model = Captioner(args.vocabulary_size, args.hidden, args.layers, args.features, embedding=args.embedding,
                      dropout=args.dropout, init_scale=0.05)
    optimizer = torch.optim.SGD(learning(model), lr=args.learning_rate, fused=True)
    features = torch.rand(args.images, args.features)
    captions = torch.randint(4, args.vocabulary_size, (args.images, args.captions, args.num_steps + 1))
    scored = args.captions * args.num_steps
    return lambda: descend(model.loss(features, captions, scored), optimizer, args.clip_norm), model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('network', choices=('language_model', 'captioner'))
    parser.add_argument('--vocabulary_size', type=int, required=True)
    parser.add_argument('--hidden', type=int, required=True)
    parser.add_argument('--layers', type=int, required=True)
    parser.add_argument('--embedding', type=int, default=0, help='0: as hidden')
    parser.add_argument('--dropout', type=float, default=0.0)
    parser.add_argument('--num_steps', type=int, required=True, help='tokens of a row that are predicted')
    parser.add_argument('--batch', type=int, default=20, help='rows of the language model')
    parser.add_argument('--images', type=int, default=16)
    parser.add_argument('--captions', type=int, default=5, help='of each image')
    parser.add_argument('--features', type=int, default=512, help='of an image')
    parser.add_argument('--learning_rate', type=float, default=1.0)
    parser.add_argument('--clip_norm', type=float, default=0.25)
    parser.add_argument('--threads', type=int, default=0, help='0: as PyTorch chooses')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    steps = {'language_model': language_model_step, 'captioner': captioner_step}
    answer(*steps[args.network](args))


if __name__ == '__main__':
    main()
