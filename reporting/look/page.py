"""A look at data as one HTML file that needs nothing else. It has no script and loads nothing."""

from typing import Any

import numpy as np

from ...common.errors import shortened
from ...input_pipeline.duplicates import LEAST_SIDE
from ...training.learning_curves import TRAIN, plain
from .. import templates
from ..scales import Scale
from . import charts, examples, texts
from .classes import Classes
from .look import Look
from .survey import MOST_COMPARED

_MOST_CLASSES = 40  # in the open table; all of them are in the folded one, up to
_MOST_ROWS = 1000
_MOST_POINTS = 600


def render(found: Look) -> str:
    """Returns the page of a look. It is ASCII: no encoding can be wrong."""
    pictures = _pictures(found)
    sections = {'sets': 'Sets', 'classes': 'Classes' if found.classes else '',
                'excerpts': 'Excerpts' if found.data_set.source.streams else
                'Texts' if found.data_set.source.has_texts else '',
                'examples': 'Examples' if pictures else '',
                'training': 'As the training sees them' if pictures.get('training') else '',
                'pixels': 'Pixels' if pictures else '', 'files': 'Sizes of files' if pictures else '',
                'columns': 'Columns' if found.columns else '', 'words': 'Words' if found.words else '',
                'repeats': 'There twice' if found.repeats else '',
                'unreadable': 'Unreadable' if any(one.unreadable for one in found.sets.values()) else ''}
    filters = {'plain': plain, 'shorten': shortened, 'percent': _percent}
    return templates.render(
        'look.html', filters, css=templates.read('look.css'), look=found, sections=sections, config=found.config,
        facts=_facts(found), sets=_sets(found), classes=_classes(found), pictures=pictures, pixels=_pixels(found),
        files=_files(found), columns=_columns(found), words=_words(found), excerpts=_excerpts(found),
        repeats=_repeats(found), training=TRAIN, noise=list(examples.task_noise(found.config)),
        steps=found.input_steps())


def _facts(found: Look) -> dict[str, str]:
    config, data_set = found.config, found.data_set
    surveyed, classes = found.surveys.get(found.shown), found.classes.get(found.shown)
    facts = {'data': shortened(str(config.data.name or config.data.source), 80), 'source': config.data.source,
             'task': config.task.name, 'set': plain(found.shown)}
    if data_set.split != found.shown:
        facts['split'] = data_set.split
    if surveyed is not None and surveyed.pixels is not None:
        height, width, channels = surveyed.features['image'][0][-3:]
        facts['images'] = f'{height} \u00d7 {width}, {channels} channel{"s" * (channels != 1)}'
        if config.image.resize != 'stretch':
            facts['resized by'] = config.image.resize
    if classes is not None:
        facts['classes'] = f'{len(classes.names):,}'
    if found.vocabulary is not None:
        facts['vocabulary'] = f'{found.vocabulary.size:,} {found.vocabulary.kind}'
    return facts


def _sets(found: Look) -> list[dict[str, Any]]:
    rows = []
    for name, one in found.sets.items():
        surveyed, pixels = found.surveys.get(name), None
        if surveyed is not None and surveyed.pixels is not None:
            mean, std = (np.asarray(values, np.float64) for values in (one.image.mean, one.image.std))
            inputs = (surveyed.pixels.mean - mean) / std
            pixels = {'mean': _numbers(surveyed.pixels.mean), 'std': _numbers(surveyed.pixels.std),
                      'input': f'{_numbers(inputs)} \u00b1 {_numbers(surveyed.pixels.std / std)}'}
        rows.append({'name': name, 'split': one.split, 'examples': len(one.source), 'altered': one.altered,
                     'looked_at': None if surveyed is None or surveyed.complete else len(surveyed.indices),
                     'unreadable': one.unreadable_count, 'pixels': pixels})
    return rows


def _classes(found: Look) -> dict[str, Any] | None:
    """Returns the table of classes: a bar for the shown set, the counts of all."""
    shown = found.classes.get(found.shown)
    if shown is None:
        return None
    highest, total = max(1, int(shown.counts.max())), max(1, int(shown.counts.sum()))
    if shown.unit == 'pixels':
        highest = total
    number = {name: dict(zip(classes.names, classes.counts.tolist())) for name, classes in found.classes.items()}
    within = {name: dict(zip(classes.names, classes.shown_in.tolist())) for name, classes in found.classes.items()}
    rows = []
    for i, name in enumerate(shown.names[:_MOST_ROWS]):
        count = int(shown.counts[i])
        rows.append({'name': name, 'bar': charts.bar(count / highest), 'share': 100 * count / total,
                     'counts': [_count(number[key].get(name, 0), shown, found.classes[key]) for key in number],
                     'within': None if shown.unit == 'examples' else
                     [f'{within[key].get(name, 0):,}' for key in within]})
    return {'rows': rows[:_MOST_CLASSES], 'more': rows[_MOST_CLASSES:], 'total': len(shown.names), 'unit': shown.unit,
            'sets': list(found.classes),
            'counted': None if shown.complete else shown.counted}


def _count(count: int, shown: Classes, own: Classes) -> str:
    return _percent(100 * count / max(1, int(own.counts.sum()))) if shown.unit == 'pixels' else f'{count:,}'


def _pictures(found: Look) -> dict[str, Any]:
    """Returns groups of examples, those that training makes of them, and what draws others; {} without images."""
    surveyed = found.surveys.get(found.shown)
    if surveyed is None or surveyed.pixels is None:
        return {}
    data_set = found.data_set
    kind = examples.kind_of(data_set.source, surveyed.features)
    classes, vocabulary = found.classes.get(found.shown), found.vocabulary
    if found.chosen and classes is None and vocabulary is not None:
        rows = texts.with_word(surveyed.arrays, vocabulary, found.chosen)
        places = examples.drawn(surveyed.indices[rows], kind, found.config.seed)
        groups = [examples.Group(found.chosen, places, len(rows))]
    else:
        groups = examples.choose(surveyed, classes, found.chosen, kind, found.config.seed)
    display = examples.Display(data_set.image, surveyed.pixels)
    examples.draw_groups(groups, data_set, display, kind)
    pictures = {'kind': kind, 'groups': groups, 'note': display.note, 'training': None,
                'small': max(surveyed.features['image'][0][-3:-1]) < 100,
                'left_out': 0 if classes is None or found.chosen else
                max(0, int((classes.shown_in[classes.first:] > 0).sum()) - examples.MOST_GROUPS),
                'mean_image': examples.picture(display.scaled(surveyed.pixels.mean_image))}
    if found.shown == TRAIN and examples.is_augmented(found.config):
        pictures['training'] = {'rows': examples.draw_augmented(found.config, data_set, surveyed, groups, display,
                                                              kind),
                                'fields': examples.augmentations(found.config)}
    return pictures


def _pixels(found: Look) -> dict[str, Any] | None:
    numbers = found.mean_and_std()
    if numbers is None:
        return None
    surveyed = found.surveys[found.shown]
    pixels, image = surveyed.pixels, found.data_set.image
    colours = charts.channel_colours(len(pixels.mean))
    chart = None
    if pixels.histogram is not None:
        chart = charts.lines(pixels.histogram, Scale(0.0, 1.0), list(colours.values()), 'how often each value occurs')
    names = ('red', 'green', 'blue') if len(pixels.mean) == 3 else [f'{i}' for i in range(len(pixels.mean))]
    rows = [{'name': name, 'colour': colours[i], 'mean': f'{pixels.mean[i]:.4f}', 'std': f'{pixels.std[i]:.4f}'}
            for i, name in enumerate(names)]
    return {'paste': '\n'.join(found.image_lines()), 'why_not': found.why_no_config(), 'images': pixels.images,
            'complete': surveyed.complete, 'total': surveyed.total, 'low': pixels.low, 'high': pixels.high,
            'configured': (tuple(image.mean), tuple(image.std)), 'chart': chart, 'rows': rows,
            'local_mean': image.local_mean, 'pretrained': bool(found.config.init_from.workdir)}


def _files(found: Look) -> dict[str, Any] | None:
    if not len(found.sizes):
        return None
    heights, widths = found.sizes.T
    height, width = found.data_set.image.size
    pairs, counts = np.unique(found.sizes, axis=0, return_counts=True)
    order = np.argsort(-counts, kind='stable')[:8]
    ratios = widths / heights
    total = sum(len(part.positions) for part in found.data_set.source.taken) or len(found.data_set.source)
    return {'count': len(found.sizes), 'total': total, 'different': len(pairs),
            'common': [(f'{pairs[i][1]:,} \u00d7 {pairs[i][0]:,}', int(counts[i])) for i in order],
            'widths': charts.histogram(widths, 'widths of the files in pixels', unit=' pixels', mark=width),
            'heights': charts.histogram(heights, 'heights of the files in pixels', unit=' pixels', mark=height),
            'ratios': charts.histogram(ratios, 'width / height', mark=width / height) if ratios.std() > 0 else None,
            'smaller': int(((heights < height) | (widths < width)).sum()), 'size': f'{width} \u00d7 {height}'}


def _columns(found: Look) -> dict[str, Any] | None:
    if not found.columns:
        return None
    arrays, classes = found.surveys[found.shown].arrays, found.classes.get(found.shown)
    rows = [{'name': column.name, 'chart': charts.spark(column.histogram), 'distinct': column.distinct,
             'numbers': [f'{value:.5g}' for value in (column.low, column.quarter, column.median,
                                                      column.three_quarters, column.high, column.mean, column.std)]}
            for column in found.columns]
    inputs = arrays['x'].reshape(len(arrays['x']), -1) if 'x' in arrays else np.zeros((0, 0))
    chart, legend = None, []
    some = slice(0, _MOST_POINTS)
    if inputs.shape[1] == 2 and 'label' in arrays:
        names = (found.columns[0].name, found.columns[1].name)
        chart = charts.scatter(inputs[some], arrays['label'][some], f'{names[1]} over {names[0]}', names)
        legend = charts.legend(classes.names[:7]) if classes is not None else []
    elif inputs.shape[1] == 1 and 'y' in arrays and arrays['y'].reshape(len(inputs), -1).shape[1] == 1:
        names = (found.columns[0].name, found.columns[1].name)
        points = np.concatenate([inputs, arrays['y'].reshape(-1, 1)], axis=1)[some]
        chart = charts.scatter(points, np.zeros(len(points), int), f'{names[1]} over {names[0]}', names)
    return {'rows': rows, 'count': found.column_count, 'chart': chart, 'legend': legend,
            'axes': [column.name for column in found.columns[:2]], 'points': min(len(inputs), _MOST_POINTS),
            'examples': len(inputs)}


def _words(found: Look) -> dict[str, Any] | None:
    shown = found.words.get(found.shown)
    if shown is None:
        return None
    characters = found.vocabulary is not None and found.vocabulary.kind == 'characters'
    rows = [{'name': name, 'texts': words.texts, 'tokens': words.tokens, 'distinct': words.distinct,
             'unknown': 100 * words.unknown / max(1, words.tokens),
             'repeated': found.repeated_texts.get(name)} for name, words in found.words.items()]
    lists = [(title, [(repr(word) if characters else word, count, charts.bar(count / pairs[0][1]))
                      for word, count in pairs])
             for title, pairs in (('The most frequent', shown.frequent),
                                  ('The most frequent of those that are unknown', shown.unknown_words)) if pairs]
    return {'rows': rows, 'lists': lists, 'what': 'characters' if characters else 'words',
            'texts': 'lines' if found.data_set.source.streams else 'texts' if found.data_set.source.has_texts
            else 'captions',
            'lengths': charts.histogram(np.minimum(shown.lengths, np.quantile(shown.lengths, 0.995)),
                                        'tokens of a text') if len(shown.lengths) else None}


def _excerpts(found: Look) -> dict[str, Any] | None:
    if found.data_set.source.has_texts:
        return _texts(found)
    if not found.data_set.source.streams:
        return None
    windows, total = texts.excerpts(found.data_set.source, found.vocabulary, found.chosen, found.config.seed)
    return {'windows': windows, 'total': total, 'steps': found.data_set.source.num_steps}


def _texts(found: Look) -> dict[str, Any]:
    surveyed, classes = found.surveys[found.shown], found.classes.get(found.shown)
    places = surveyed.indices
    if found.chosen and classes is not None:
        places = classes.places(classes.number(found.chosen))
    elif found.chosen:
        places = places[texts.with_word(surveyed.arrays, found.vocabulary, found.chosen, 'tokens')]
    drawn = np.sort(examples.drawn(places, 'image', found.config.seed))
    return {'windows': texts.examples_of(found.data_set, drawn, found.vocabulary), 'total': len(places), 'steps': 0}


def _repeats(found: Look) -> list[dict[str, Any]]:
    rows = []
    for one in found.repeats:
        shown, within = [], one.name == one.within
        for pair in one.pairs:
            tiles = [_plain_tile(found, *place) for place in (pair.first, pair.second)]
            differ = tiles[0].lines != tiles[1].lines
            if not within:
                for tile, (name, _) in zip(tiles, (pair.first, pair.second)):
                    tile.lines.append(plain(name))
            shown.append({'tiles': tiles, 'differ': differ, 'likeness': 'the same pixels' if pair.likeness is None
                          else f'likeness {min(pair.likeness, 0.999):.3f}'})
        rows.append({'title': one.name if within else f'{one.name} and {one.within}', 'one': one, 'pairs': shown,
                     'within': within, 'why_not': _why_not(found, one.name) if one.alike is None else ''})
    return rows


def _why_not(found: Look, name: str) -> str:
    """Returns why almost equal images were not looked for."""
    prints = found.surveys[name].prints
    if prints is None:
        return ''
    return f'images with a side below {LEAST_SIDE} pixels are compared for equality alone' if not prints.comparable \
        else f'more than {MOST_COMPARED:,} images are compared for equality alone'


def _plain_tile(found: Look, name: str, place: int) -> examples.Tile:
    data_set, pixels = found.sets[name], found.surveys[name].pixels
    return examples.tile(data_set, place, examples.Display(data_set.image, pixels))


def _numbers(values: np.ndarray) -> str:
    return ', '.join(f'{value:.3f}' for value in np.ravel(values)[:4]) + (', \u2026' if np.size(values) > 4 else '')


def _percent(value: float) -> str:
    return f'{value:.1f} %' if value >= 0.1 or value == 0 else f'{value:.2g} %'
