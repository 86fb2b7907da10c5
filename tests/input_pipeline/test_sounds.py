"""Sounds become pictures of their pitches: drawn ones, and WAV files of any kind; predictions read them alike."""

import json
import wave

import numpy as np
import pytest
from scipy.io import wavfile

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.inference.prediction import find_image_files, predict_files
from practicum.input_pipeline import sounds, sources
from practicum.input_pipeline.datasets import chirps
from practicum.input_pipeline.images import Content
from practicum.training.defaults import base
from practicum.training.evaluation import Evaluations
from practicum.training.parallel import Parallel
from tests.untrained import UntrainedRun


def image_config(size=(64, 64), resize='stretch', **sound):
    config = base().image
    config.size, config.resize = size, resize
    config.sound.update(sound)
    return config


def data_config(name, **fields):
    config = base().data
    config.update(source='sounds', name=str(name), **fields)
    return config


def tone(pitch: float, begin: float, end: float, rate: int = 8000, seconds: float = 1.0) -> np.ndarray:
    times = np.arange(round(rate * seconds)) / rate
    return 0.5 * np.sin(2 * np.pi * pitch * times) * ((begin <= times) & (times < end))


# What a spectrogram shows.

def test_a_tone_is_a_white_line_as_high_as_its_pitch_while_it_sounds():
    image = image_config((64, 100))
    found = sounds.to_image(tone(3000, 0.25, 0.5).astype(np.float32), image)
    assert found.shape == (64, 100, 1) and found.dtype == np.uint8
    rows, columns = np.nonzero(found[..., 0] > 128)
    assert abs(rows.mean() - 64 * (1 - 3000 / 4000)) < 1.5  # 0 Hz is at the bottom, half the rate at the top
    assert abs(columns.min() - 25) <= 2 and abs(columns.max() - 50) <= 2 and len(set(columns)) > 20


def test_loudness_means_nothing_and_silence_is_black():
    image = image_config()
    loud = tone(1000, 0.2, 0.9).astype(np.float32) + np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    found = sounds.to_image(loud, image).astype(int)
    assert np.abs(found - sounds.to_image(np.float32(loud / 50), image)).max() <= 1
    assert not sounds.to_image(np.zeros(8000, np.float32), image).any()
    image.channels = 3
    assert sounds.to_image(loud, image).shape == (64, 64, 3)


# Drawn chirps.

def test_pitches_go_where_their_class_says():
    image = image_config((129, 120))
    for number in range(6):
        for kind in chirps.CLASSES:
            drawn = chirps.draw(kind, 0.0, np.random.default_rng((number, 7))) / 32768
            found = sounds.to_image(sounds.fitted(drawn, chirps.RATE, image.sound), image)[..., 0].astype(float)
            there = np.flatnonzero(found.max(0) > 200)
            path = 128 - found.argmax(0)[there]
            first, middle, last = path[2], path[len(path) // 2], path[-3]
            inner, above, below = found[1:-1, there], found[:-2, there], found[2:, there]
            peaks = ((inner > 200) & (inner >= above) & (inner > below)).sum(0)
            two = (peaks > 1).mean() > 0.8
            moves = {'rising': first < middle < last, 'falling': first > middle > last, 'rising_falling':
                     middle > first + 5 and middle > last + 5, 'constant': np.ptp(path) <= 2, 'two_tone': True}
            assert moves[kind] and two == (kind == 'two_tone'), (kind, number)


def test_chirps_are_drawn_alike_whenever_and_in_every_class():
    image, data = image_config((32, 32)), data_config('chirps')
    source = sources.open_split(data, image, 'validation[:40]')
    again = sources.open_split(data, image, 'validation[:40]')
    rows = np.array([39, 3])
    np.testing.assert_array_equal(source.read(rows)['image'], again.read(rows)['image'])
    assert np.bincount(source.read(np.arange(40))['label']).tolist() == [8] * 5
    assert source.info.class_names == chirps.CLASSES and 0.25 <= source.describe(rows)[0]['noise'] <= 2
    other = chirps.example('train', 39)[0]
    assert (chirps.example('validation', 39)[0] != other).mean() > 0.99
    with pytest.raises(UserError, match="chirps has no split 'tests'; did you mean test"):
        sources.open_split(data, image, 'tests')


def test_noise_is_as_loud_as_it_says():
    quiet, loud = (chirps.draw('constant', noise, np.random.default_rng(0)).astype(float) for noise in (0.0, 2.0))
    factor = loud @ quiet / (quiet @ quiet)  # the same tone, both times as loud as fits
    assert (loud - factor * quiet).std() / (factor * np.abs(quiet).max()) == pytest.approx(2.0, rel=0.05)


def test_without_a_window_examples_are_waves():
    source = sources.open_split(data_config('chirps'), image_config(window=0, rate=2000), 'validation[:5]')
    found = source.read(np.arange(5))
    assert sorted(found) == ['label', 'x'] and found['x'].shape == (5, 2000)
    np.testing.assert_allclose(np.abs(found['x']).max(1), 1, rtol=1e-6)


# WAV files.

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """<class>/*.wav: tones of two pitches in files of every kind, and one that is damaged."""
    root = tmp_path_factory.mktemp('sounds')
    for name, pitch in (('high', 3000), ('low', 500)):
        (root / name).mkdir()
        sound = tone(pitch, 0.1, 0.9)
        sixteen = np.int16(32767 * sound)
        wavfile.write(root / name / 'int16.wav', 8000, sixteen)
        wavfile.write(root / name / 'uint8.wav', 8000, np.uint8(np.round(128 + 127 * sound)))
        wavfile.write(root / name / 'float.WAV', 8000, np.float32(sound))
        wavfile.write(root / name / 'stereo.wav', 8000, np.stack([sixteen, sixteen // 2], 1))
        wavfile.write(root / name / 'fast.wav', 22050, np.int16(32767 * tone(pitch, 0.1, 0.9, 22050, 1.7)))
        with wave.open(str(root / name / '24 bits.wav'), 'wb') as file:
            file.setparams((1, 3, 8000, 0, 'NONE', ''))
            file.writeframes(b''.join(int(value).to_bytes(3, 'little', signed=True) for value in sound * (2**23 - 1)))
    return root


def test_files_of_every_kind_sound_the_same(folder):
    sound = image_config().sound
    expected = tone(500, 0.1, 0.9)
    for file, loudness, most in (('int16.wav', 1, 1e-3), ('uint8.wav', 1, 0.01), ('float.WAV', 1, 1e-6),
                                 ('24 bits.wav', 1, 1e-5), ('stereo.wav', 0.75, 1e-3), ('fast.wav', 1, 0.01)):
        found = sounds.read_wave(folder / 'low' / file, sound)
        assert found.shape == (8000,) and found.dtype == np.float32
        steady = slice(1000, 7000)  # a filter rings where a tone begins
        np.testing.assert_allclose(found[steady], loudness * expected[steady], atol=most, err_msg=file)
    content = Content((folder / 'low' / 'int16.wav').read_bytes())
    np.testing.assert_array_equal(sounds.read_wave(content, sound), sounds.read_wave(folder / 'low/int16.wav', sound))


def test_what_is_short_is_followed_by_silence_and_what_is_long_is_cut(folder):
    file = folder / 'low' / 'int16.wav'
    whole = sounds.read_wave(file, image_config().sound)
    np.testing.assert_array_equal(sounds.read_wave(file, image_config(seconds=0.5).sound), whole[:4000])
    longer = sounds.read_wave(file, image_config(seconds=1.5).sound)
    np.testing.assert_array_equal(longer, np.pad(whole, (0, 4000)))


def test_a_folder_of_sounds_is_a_data_set_and_damaged_ones_are_left_out(folder, tmp_path):
    for file in folder.rglob('*'):
        if file.is_file():
            (tmp_path / file.parent.name).mkdir(exist_ok=True)
            (tmp_path / file.parent.name / file.name).symlink_to(file)
    (tmp_path / 'low' / 'broken.wav').write_bytes((folder / 'low' / 'int16.wav').read_bytes()[:20])
    (tmp_path / 'low' / 'notes.txt').write_text('no sound')
    for limit in (2048, 0):
        with pytest.raises(UserError, match='1 of 13 sounds in .* cannot be read'):
            sources.open_split(data_config(tmp_path, memory_limit_mb=limit), image_config(), 'train')
    source = sources.open_split(data_config(tmp_path, max_unreadable=0.2), image_config(), 'train')
    examples = source.read(np.arange(len(source)))
    assert source.info.class_names == ('high', 'low') and sorted(examples['label']) == [0] * 6 + [1] * 6
    assert {about['file'] for about in source.describe(np.arange(12))} == {
        str(file.relative_to(folder)) for file in folder.rglob('*') if file.is_file()}
    for image, label in zip(examples['image'][..., 0], examples['label']):
        assert abs((image > 128).any(1).nonzero()[0].mean() - 64 * (1 - (3000, 500)[label] / 4000)) < 2


def test_a_run_predicts_sounds_as_it_learned_them(folder, tmp_path):
    config = base()
    config.data.source, config.image.size, config.model = 'sounds', (16, 16), {'name': 'mlp', 'hidden': (4,)}
    run = UntrainedRun(config, DatasetInfo(('image', 'label'), ('high', 'low')), tmp_path)
    file = folder / 'high' / '24 bits.wav'
    image = sounds.to_image(sounds.read_wave(file, run.config.image.sound), run.config.image)
    assert run.predict(str(file))[0]['percent'] == pytest.approx(run.predict(image)[0]['percent'], abs=0.01)
    assert len(run.predict(folder)) == 12
    assert len(find_image_files([str(folder / 'low')], None, [], run.network().suffixes)) == 6
    with pytest.raises(UserError, match='no such files in this folder .looked for .wav .wave'):
        run.predict(tmp_path)


@pytest.fixture(scope='module')
def run_on_waves(tmp_path_factory):
    config = base()
    config.data.source, config.image.sound.window, config.image.sound.rate = 'sounds', 0, 1000
    config.model = {'name': 'mlp', 'hidden': ()}
    config.data.arrays.update({'x': np.zeros((1, 1000), np.float32)})
    return UntrainedRun(config, DatasetInfo(('x', 'label'), ('high', 'low')), tmp_path_factory.mktemp('waves'))


def test_a_run_on_waves_predicts_sounds_too(folder, run_on_waves, capsys):
    run = run_on_waves
    assert run.feature == 'x' and len(run.predict(folder)) == 12
    file = folder / 'low' / '24 bits.wav'
    x = sounds.read_wave(file, run.config.image.sound)
    x /= np.abs(x).max()
    percent = run.predict(str(file))[0]['percent']
    assert percent == pytest.approx(run.predict(x)[0]['percent'], abs=0.01)
    with pytest.raises(UserError, match='was trained on the waves of sounds, it cannot look at images'):
        run.preprocess(x)
    assert predict_files(run, [str(file)], form='json') == 0
    assert json.loads(capsys.readouterr().out)[0]['percent'] == pytest.approx(percent, abs=0.01)


def test_sounds_are_neither_mirrored_nor_inverted(monkeypatch, tmp_path, call_launch):
    config = base()
    config.data.source = 'sounds'
    config.image.size, config.model = (16, 16), {'name': 'mlp', 'hidden': ()}
    run = UntrainedRun(config, DatasetInfo(('image', 'label'), ('high', 'low')), tmp_path)
    with pytest.raises(UserError, match='--tta flip: .* was trained on sounds'):
        run.predict(tmp_path, tta='flip')
    monkeypatch.setattr('practicum.inference.run.Run', lambda *args, **how: run)
    monkeypatch.setattr('practicum.commands.command.prepare', lambda args: None)
    result = call_launch('predict', '--workdir', tmp_path, '--invert', 'a.wav')
    assert result.code == 2 and '--invert is for images' in result.err
    config = base()
    config.data.source = 'sounds'
    config.evaluation.tta, config.model = 'flip', {'name': 'mlp', 'hidden': ()}
    with pytest.raises(UserError, match="config.evaluation.tta = 'flip': sounds mean something else backwards"):
        Evaluations(config, Parallel(config.parallel), run.task, run.info, ())


def test_a_sound_without_sound_is_said(folder, run_on_waves, tmp_path, caplog):
    sound = np.int16(9999 * tone(500, 0.1, 0.9))
    for name, samples in (('silent', 0 * sound), ('against', np.stack([sound, -sound], 1)), ('fine', sound)):
        wavfile.write(tmp_path / f'{name}.wav', 8000, samples)
    run_on_waves.predict(tmp_path)
    assert [line.split('/')[-1] for line in caplog.messages if 'nothing is to be heard in the first 1 s' in line] == [
        'against.wav: the answer means nothing', 'silent.wav: the answer means nothing']


@pytest.mark.parametrize('content, words', [
    (None, 'no such file'), (b'', 'is no WAV file'), (b'RIFF____WAVEfmt ', 'is no WAV file'),
    (b'\x89PNG\r\n', 'is no WAV file'), ('folder', 'is a folder, not a sound'), ('empty', 'holds no sound'),
    ('nan', 'no numbers'),
])
def test_what_is_no_sound_is_one_line(content, words, tmp_path):
    file = tmp_path / 'a.wav'
    if content == 'folder':
        file.mkdir()
    elif content in ('empty', 'nan'):
        wavfile.write(file, 8000, np.full(3 * (content == 'nan'), np.nan, np.float32))
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=f'a.wav: .*{words}') as error:
        sounds.read_wave(file, image_config().sound)
    assert '\n' not in str(error.value)


def with_number(content: bytes, place: int, value: int) -> bytes:
    return content[:place] + value.to_bytes(4, 'little') + content[place + 4:]


def test_files_that_are_cut_off_or_say_a_rate_of_nothing_are_unreadable(folder, tmp_path):
    sound, content = image_config().sound, (folder / 'low' / 'int16.wav').read_bytes()
    whole = sounds.read_wave(Content(content), sound)
    for cut in (content[:-100], content[:-101], with_number(content[:-100], 4, len(content) - 108)):
        with pytest.raises(UserError, match='is cut off|damaged'):
            sounds.read_wave(Content(cut), sound)
    for said in (0xFFFFFFFF, 0x7FFFF000):  # by a program that writes while it records
        np.testing.assert_array_equal(sounds.read_wave(Content(with_number(content, 40, said)), sound), whole)
    for rate in (0, 199_999_991):
        with pytest.raises(UserError, match=f'header says {rate:,} samples per second'):
            sounds.read_wave(Content(with_number(with_number(content, 24, rate), 28, 2 * rate)), sound)
    wavfile.write(tmp_path / 'one.wav', 8000, np.ones(1, np.int16))
    with pytest.raises(UserError, match='one.wav: holds no sound'):
        sounds.read_wave(tmp_path / 'one.wav', sound)


@pytest.mark.parametrize('fields, words', [
    ({'rate': 0}, 'sound.rate = 0: it must be above 0'), ({'window': 9000}, 'window = 9000: .* 8 to the 8,000'),
    ({'resize': 'crop'}, "resize = 'crop' would cut off pitches"),
    ({'step': 300}, 'step = 300: windows of 256 samples'), ({'range_db': -1.0}, 'range_db = -1.0'),
])
def test_fields_out_of_range_are_one_line(fields, words):
    with pytest.raises(UserError, match=words):
        sources.open_split(data_config('chirps'), image_config(**fields), 'train')


def test_folders_without_classes_are_named(tmp_path):
    with pytest.raises(UserError, match='a folder for each of at least 2 classes.* there are 0'):
        sources.open_split(data_config(tmp_path), image_config(), 'train')
