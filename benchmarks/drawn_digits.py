"""Digits drawn with a simulated pen in seven styles, and what trained variants of mnist_lenet make of them.

    python benchmarks/drawn_digits.py --output drawn --runs runs/mnist_lenet-small-seed0 runs/mnist_lenet-seed0

Writes a contact sheet (drawn/sheet.png), seven single images as a user would hand them to `launch.py predict`, and
two tables in Markdown: what each run says of the seven images, and its accuracy on 200 drawings of every style.
None of the images is like MNIST on purpose except 'plain': MNIST is light on dark, centred and of one thickness.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`

SIZE = 280  # pixels of a drawing

# Pen strokes through control points in a unit square, y downwards.
STROKES = {
    0: [[(.5, .12), (.28, .25), (.24, .55), (.36, .84), (.55, .88), (.72, .68), (.74, .36), (.62, .15), (.5, .12)]],
    1: [[(.38, .26), (.53, .13), (.52, .5), (.50, .88)]],
    2: [[(.28, .3), (.38, .15), (.6, .14), (.68, .32), (.55, .52), (.36, .7), (.26, .86)],
        [(.26, .86), (.5, .84), (.74, .86)]],
    3: [[(.3, .2), (.48, .12), (.66, .22), (.62, .4), (.45, .48)],
        [(.45, .48), (.66, .54), (.7, .74), (.52, .88), (.29, .8)]],
    4: [[(.4, .13), (.33, .36), (.27, .58), (.5, .58), (.76, .56)], [(.62, .28), (.61, .6), (.59, .89)]],
    5: [[(.7, .14), (.52, .14), (.36, .15), (.34, .3), (.32, .45)],
        [(.32, .45), (.52, .4), (.68, .52), (.68, .74), (.5, .88), (.29, .82)]],
    6: [[(.64, .13), (.42, .28), (.3, .55), (.34, .8), (.53, .88), (.69, .74), (.64, .56), (.46, .54), (.33, .68)]],
    7: [[(.26, .17), (.5, .16), (.73, .16)], [(.73, .16), (.6, .42), (.5, .65), (.44, .89)]],
    8: [[(.62, .22), (.48, .12), (.35, .24), (.42, .42), (.6, .56), (.68, .74), (.52, .88), (.35, .78), (.4, .58),
         (.58, .42), (.64, .28), (.62, .22)]],
    9: [[(.66, .3), (.52, .13), (.35, .24), (.36, .44), (.54, .48), (.67, .32)], [(.67, .3), (.64, .6), (.56, .89)]],
}

STYLES = ('plain', 'rotated', 'thick', 'thin', 'inverted', 'colour', 'photographed')
SEVEN = (7, 4, 2, 3, 8, 6, 5)  # the digit of each style's single image


def smooth(points: list[tuple[float, float]], pieces: int = 16) -> np.ndarray:
    """Catmull-Rom curve through control points: float [n, 2]."""
    p = np.asarray([points[0], *points, points[-1]], float)
    t = np.linspace(0, 1, pieces, endpoint=False)[:, None]
    parts = [0.5 * (2 * p[i] + (p[i + 1] - p[i - 1]) * t + (2 * p[i - 1] - 5 * p[i] + 4 * p[i + 1] - p[i + 2]) * t**2
                    + (3 * p[i] - p[i - 1] - 3 * p[i + 1] + p[i + 2]) * t**3) for i in range(1, len(p) - 2)]
    return np.concatenate([*parts, p[-1:]])


def ink(digit: int, random: np.random.Generator, thickness: float, degrees: float = 0.0) -> np.ndarray:
    """Coverage of pen strokes of a shaky hand, float [SIZE, SIZE] in [0, 1]."""
    canvas = Image.new('L', (2 * SIZE, 2 * SIZE))
    draw = ImageDraw.Draw(canvas)
    slant, stretch = random.uniform(-.12, .12), random.uniform(.85, 1.1)
    for stroke in STROKES[digit]:
        curve = smooth([(x + random.normal(0, .012), y + random.normal(0, .012)) for x, y in stroke])
        curve = (curve - .5) * (.92 * stretch, .92)
        curve[:, 0] -= slant * curve[:, 1]
        xy = (curve + .5) * 2 * SIZE
        width = round(2 * SIZE * thickness)
        draw.line([tuple(point) for point in xy], fill=255, width=width, joint='curve')
        for x, y in (xy[0], xy[-1]):
            draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)
    return np.asarray(canvas.rotate(degrees).resize((SIZE, SIZE), Image.Resampling.LANCZOS), float) / 255


def drawing(style: str, digit: int, random: np.random.Generator) -> Image.Image:
    """One image of a digit in one of STYLES."""
    thickness = {'thick': .17, 'thin': .025}.get(style, random.uniform(.07, .09))
    degrees = random.choice([-1, 1]) * random.uniform(15, 25) if style == 'rotated' else random.uniform(-4, 4)
    pen = ink(digit, random, thickness, degrees)[..., None]
    if style == 'colour':
        return mix(pen, (25, 60, 130), (255, 170, 40))
    if style == 'inverted':
        return mix(pen, (255, 255, 255), (0, 0, 0))
    if style == 'photographed':  # dark ink on grey paper, uneven light, off centre, out of focus, noise
        dy, dx = random.integers(-20, 21, 2)
        pen = np.roll(pen, (dy, dx), (0, 1))
        y, x = np.mgrid[:SIZE, :SIZE] / SIZE
        light = 0.72 + 0.25 * (x * random.uniform(-1, 1) + y * random.uniform(-1, 1))
        grey = light[..., None] * (1 - 0.8 * pen) + random.normal(0, .03, pen.shape)
        picture = Image.fromarray((255 * np.clip(grey, 0, 1)).astype(np.uint8).repeat(3, -1))
        return picture.filter(ImageFilter.GaussianBlur(3))
    return mix(pen, (0, 0, 0), (255, 255, 255))


def mix(pen: np.ndarray, paper: tuple[int, int, int], colour: tuple[int, int, int]) -> Image.Image:
    """Ink of one colour on paper of another."""
    return Image.fromarray(((1 - pen) * paper + pen * np.asarray(colour)).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=Path, nargs='+', required=True)
    parser.add_argument('--output', type=Path, default=Path('drawn'))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)

    files = []
    for style, digit in zip(STYLES, SEVEN):
        files.append(args.output / f'{digit}_{style}.png')
        drawing(style, digit, random).save(files[-1])
    drawings = {style: [(digit, drawing(style, digit, random)) for _ in range(20) for digit in range(10)]
                for style in STYLES}
    sheet = Image.new('RGB', (10 * 84, len(STYLES) * 84), 'white')
    for row, style in enumerate(STYLES):
        for digit, picture in drawings[style][:10]:
            sheet.paste(picture.resize((80, 80)), (digit * 84 + 2, row * 84 + 2))
    sheet.save(args.output / 'sheet.png')

    from practicum.training import process
    process.prepare()
    from practicum.inference.run import Run
    runs = {workdir.name: Run(workdir, 'last') for workdir in args.runs}

    print('| run | ' + ' | '.join(f'{digit} {style}' for style, digit in zip(STYLES, SEVEN)) + ' |')
    print('|---' * (len(STYLES) + 1) + '|')
    for name, run in runs.items():
        found = run.predict(files, top_k=1)
        cells = [f"{'**' * (p['classes'][0] == str(d))}{p['classes'][0]}{'**' * (p['classes'][0] == str(d))} "
                 f"{p['percent'][0]:.1f} %" for p, d in zip(found, SEVEN)]
        print(f'| {name} | ' + ' | '.join(cells) + ' |')

    print('\n| run | ' + ' | '.join(STYLES) + ' | mean |')
    print('|---' * (len(STYLES) + 2) + '|')
    for name, run in runs.items():
        shares = []
        for style in STYLES:
            found = run.predict([picture for _, picture in drawings[style]], top_k=1)
            shares.append(np.mean([p['classes'][0] == str(digit) for p, (digit, _) in zip(found, drawings[style])]))
        print(f'| {name} | ' + ' | '.join(f'{100 * share:.1f} %' for share in [*shares, np.mean(shares)]) + ' |')


if __name__ == '__main__':
    main()
