"""Promises of the Sunnybrook builder, on small folders of both layouts made here."""

import json
import logging

import numpy as np
import pytest
import tensorflow_datasets as tfds

from practicum.common.errors import UserError
from practicum.input_pipeline import contours, datasets, dicom, prepared_data, sources
from practicum.input_pipeline.datasets import sunnybrook
from practicum.training.defaults import base
from tests.input_pipeline.test_dicom import write_dicom

HEIGHT, WIDTH = 20, 24
CASES = ('SC-HF-I-01', 'SC-HF-I-12', 'SC-HF-NI-03', 'SC-N-02')
PATIENTS = ('SC-HF-I-1', 'SC-HF-I-12', 'SC-HF-NI-3', 'SC-N-2')


def ring(seed):
    """A contour as the files have it, counting pixels from 1, on a half-pixel grid."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x, y = 12 + seed % 3 + 5 * np.cos(angle), 10 + 4 * np.sin(angle)
    return np.round(2 * np.stack([x, y], 1)) / 2


def write_contour(folder, case, number, contour, kind='icontour', expert='IRCCI-expert'):
    path = folder / case / 'contours-manual' / expert / f'IM-0001-{number:04d}-{kind}-manual.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    contours.write_contour(path, contour)
    return path


def picture(seed):
    return np.random.default_rng(seed).integers(0, 900, (HEIGHT, WIDTH)).astype(np.int16)


@pytest.fixture
def by_case(tmp_path):
    """images/ and contours/ by case: 4 patients with 3 labelled and 1 unlabelled slice each."""
    folder = tmp_path / 'manual'
    for p, case in enumerate(CASES):
        for number in (8, 20, 48, 60):
            write_dicom(folder / 'images' / case / f'IM-0001-{number:04d}.dcm', picture(100 * p + number),
                        PixelSpacing=[1.5, 1.25] if p % 2 else None)
            if number != 60:
                write_contour(folder / 'contours', case, number, ring(number))
                write_contour(folder / 'contours', case, number, ring(number) / 2, kind='ocontour')
    return folder


@pytest.fixture
def release(tmp_path):
    """The same slices as in `by_case`, laid out like the public release: other series numbers, a long-axis series."""
    folder = tmp_path / 'release'
    rows = []
    for p, case in enumerate(CASES):
        code = f'SCD{p + 1:05d}01'
        rows.append(f'{code},{PATIENTS[p]},M,50')
        parent = folder / f'SCD_IMAGES_0{p}' / code if p else folder / code
        for number in (8, 20, 48, 60):
            write_dicom(parent / f'CINESAX_{300 + p}' / f'IM-08{p}1-{number:04d}.dcm', picture(100 * p + number),
                        PixelSpacing=[1.5, 1.25] if p % 2 else None)
            write_dicom(parent / 'CINELAX_305' / f'IM-0900-{number:04d}.dcm', picture(1))
            if number != 60:
                write_contour(folder / 'SCD_ManualContours', case, number, ring(number))
    table = folder / 'table' / 'scd_patientdata.csv'
    table.parent.mkdir()
    table.write_text('PatientID,OriginalID,Gender,Age\n' + '\n'.join(rows) + '\n', encoding='utf-8-sig')
    return folder


def prepare(folder, data_dir, protocol):
    datasets.register('sunnybrook')
    tfds.disable_progress_bar()
    builder = tfds.builder(f'sunnybrook/{protocol}', data_dir=str(data_dir), file_format='array_record')
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(folder)))
    return builder


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


# Examples.

def test_a_prepared_data_set_has_slices_masks_names_and_spacing(by_case, tmp_path):
    builder = prepare(by_case, tmp_path / 'data', 'by_patient')
    assert builder.info.supervised_keys == ('image', 'segmentation_mask')
    assert builder.info.features['segmentation_mask'].names == ['background', 'left_ventricle']
    examples = [e for split in builder.info.splits for e in builder.as_data_source(split)]
    assert len(examples) == 12
    for example in examples:
        p = PATIENTS.index(text(example['patient']))
        name = text(example['slice'])
        path = by_case / 'images' / CASES[p] / f'{name}.dcm'
        np.testing.assert_array_equal(example['image'][..., 0], dicom.read_dicom(path).pixels)
        expected = contours.rasterize(ring(int(name[-4:])) - 1, (HEIGHT, WIDTH))  # Files count from 1.
        assert example['segmentation_mask'].dtype == np.uint8 and 40 < expected.sum() < 80
        np.testing.assert_array_equal(example['segmentation_mask'][..., 0], expected)
        np.testing.assert_array_equal(example['spacing_mm'], np.float32([1.5, 1.25] if p % 2 else [0, 0]))
    report = json.loads((builder.data_path / 'skipped.json').read_text())
    assert report == {'slices': 12, 'images_without_contour': 4, 'skipped': {}}


def test_the_release_gives_the_same_examples_as_the_layout_by_case(by_case, release):
    expected, _ = sunnybrook.read_folder(by_case)
    found, report = sunnybrook.read_folder(release)
    assert list(found) == list(expected) and report['skipped'] == {}
    assert list(found)[0] == ('SC-HF-I-1', 'IM-0001-0008')
    for key, example in expected.items():
        for name, value in example.items():
            np.testing.assert_array_equal(found[key][name], value)


def test_a_series_is_known_by_its_description_where_the_folder_does_not_tell(release):
    for path in sorted(release.rglob('CINESAX_*')):
        for image in path.iterdir():
            write_dicom(image, picture(1), SeriesDescription='cinesax')
        path.rename(path.with_name('series_1'))
    examples, report = sunnybrook.read_folder(release)
    assert len(examples) == 12 and report['skipped'] == {}


def test_without_a_table_the_patient_id_of_the_files_tells_who_it_is(release):
    (release / 'table' / 'scd_patientdata.csv').unlink()
    with pytest.raises(UserError, match='images are of SCD0000101.* contours of SC-HF-I-1.*scd_patientdata.csv'):
        sunnybrook.read_folder(release)
    for p, case in enumerate(CASES):
        for path in release.rglob(f'SCD{p + 1:05d}01/*/*.dcm'):
            write_dicom(path, picture(1), PatientID=case)
    assert len(sunnybrook.read_folder(release)[0]) == 12


def test_of_several_short_axis_series_the_one_that_fits_is_taken_and_a_tie_is_skipped(release):
    parent = release / 'SCD0000101'
    write_dicom(parent / 'CINESAX_999' / 'IM-0999-0008.dcm', picture(7))
    examples, report = sunnybrook.read_folder(release)
    assert len(examples) == 12 and report['skipped'] == {}
    np.testing.assert_array_equal(
        examples['SC-HF-I-1', 'IM-0001-0008']['image'][..., 0],
        dicom.read_dicom(parent / 'CINESAX_300' / 'IM-0801-0008.dcm').pixels)
    for number in (20, 48):
        write_dicom(parent / 'CINESAX_999' / f'IM-0999-{number:04d}.dcm', picture(7))
    examples, report = sunnybrook.read_folder(release)
    assert len(examples) == 9
    assert {reason: len(paths) for reason, paths in report['skipped'].items()} == {
        'patient with several series CINESAX that fit the contours': 3}


# What is skipped.

def test_everything_unusable_is_counted_by_reason_and_listed_and_the_rest_is_kept(by_case, caplog):
    case = by_case / 'contours' / CASES[0]
    folder = case / 'contours-manual' / 'IRCCI-expert'
    (folder / 'IM-0001-0008-icontour-manual.txt').write_text('')
    write_contour(by_case / 'contours', CASES[0], 20, ring(0)[:2])
    write_contour(by_case / 'contours', CASES[0], 48, ring(0) + [15, 0])
    write_contour(by_case / 'contours', CASES[0], 99, ring(0))
    write_contour(by_case / 'contours', CASES[1], 8, np.array([[5.2, 5.2], [5.4, 5.2], [5.2, 5.4]]))
    image = by_case / 'images' / CASES[1] / 'IM-0001-0020.dcm'
    image.write_bytes(image.read_bytes()[:-50])
    write_contour(by_case / 'contours', 'SC-HF-I-012', 48, ring(0))
    write_contour(by_case / 'contours', CASES[2], 8, ring(0), expert='somebody-else')
    with caplog.at_level(logging.WARNING):
        examples, report = sunnybrook.read_folder(by_case)
    assert len(examples) == report['slices'] == 12 - 5
    assert {reason: len(paths) for reason, paths in report['skipped'].items()} == {
        'unreadable contour': 2, 'contour outside the image': 1, 'contour without an image': 1,
        'contour around no pixel': 1, 'unreadable image': 1, 'second contour of a slice': 1}
    assert report['images_without_contour'] == 4
    outside, = report['skipped']['contour outside the image']
    assert outside.startswith('contours/SC-HF-I-01/') and 'IM-0001-0048' in outside and '24x20' in outside
    assert len(caplog.messages) == 6 and all(str(by_case) in message for message in caplog.messages)
    assert any('unreadable contour, 2 skipped: contours/SC-HF-I-01/' in message for message in caplog.messages)


def test_long_lists_are_cut_on_the_terminal_only(by_case, caplog):
    for number in range(200, 208):
        write_contour(by_case / 'contours', CASES[0], number, ring(0))
    with caplog.at_level(logging.WARNING):
        _, report = sunnybrook.read_folder(by_case)
    assert len(report['skipped']['contour without an image']) == 8
    message, = caplog.messages
    assert '8 skipped' in message and message.count('icontour') == 5 and message.endswith('...')


def test_links_out_of_the_folder_are_not_followed(by_case, tmp_path):
    outside = tmp_path / 'outside'
    (by_case / 'images' / CASES[0]).rename(outside)
    (by_case / 'images' / CASES[0]).symlink_to(outside)
    linked = by_case / 'images' / CASES[1] / 'IM-0001-0008.dcm'
    linked.unlink()
    linked.symlink_to(outside / 'IM-0001-0008.dcm')
    examples, report = sunnybrook.read_folder(by_case)
    assert len(examples) == 12 - 3 - 1
    assert len(report['skipped']['contour without an image']) == 4


def test_a_folder_without_contours_images_or_anything_usable_says_what_was_looked_for(by_case, tmp_path):
    (tmp_path / 'other').mkdir()
    with pytest.raises(UserError, match='other: no contours here; looked for .*IRCCI-expert'):
        sunnybrook.read_folder(tmp_path / 'other')
    with pytest.raises(UserError, match='no images here; looked for images/<case>'):
        (by_case / 'images').rename(by_case / 'scans')
        sunnybrook.read_folder(by_case)
    (by_case / 'scans').rename(by_case / 'images')
    for path in by_case.rglob('*.txt'):
        path.write_text('')
    with pytest.raises(UserError, match='no labelled slice is left; unreadable contour: 12, such as contours/SC'):
        sunnybrook.read_folder(by_case)


def test_a_user_error_comes_through_tfds_in_one_line(tmp_path):
    (tmp_path / 'manual').mkdir()
    (tmp_path / 'manual' / 'readme.txt').touch()
    with pytest.raises(UserError, match='no contours here') as error:
        prepare(tmp_path / 'manual', tmp_path / 'data', 'by_patient')
    assert '\n' not in str(error.value)


# Splits.

def keys_of(patients, slices=10):
    return [(patient, f'IM-0001-{i:04d}') for patient in patients for i in range(slices)]


@pytest.mark.parametrize('number, sizes', [(3, (1, 1, 1)), (4, (2, 1, 1)), (12, (8, 2, 2)), (20, (14, 3, 3)),
                                           (45, (31, 7, 7))])
def test_no_patient_is_in_two_splits_and_none_is_lost(number, sizes):
    keys = keys_of([f'SC-HF-I-{i}' for i in range(number)])
    parts = sunnybrook.split_by_patient(keys)
    patients = [{patient for patient, _ in parts[name]} for name in ('train', 'validation', 'test')]
    assert tuple(len(p) for p in patients) == sizes
    assert sum(sizes) == number == len(set.union(*patients))
    assert sorted(sum(parts.values(), [])) == sorted(keys)


@pytest.mark.parametrize('sizes', [(6, 2, 2, 2), (2, 6, 2, 2), (3, 3, 3, 3), (12, 2, 12, 2), (12, 12, 12, 9)])
def test_every_disease_is_in_training(sizes):
    groups = dict(zip(('SC-HF-I', 'SC-HF-NI', 'SC-HYP', 'SC-N'), sizes))
    parts = sunnybrook.split_by_patient(keys_of([f'{g}-{i}' for g, n in groups.items() for i in range(n)]))
    trained = {group: len({p for p, _ in parts['train'] if p.startswith(f'{group}-')}) for group in groups}
    assert all(n / 2 <= trained[group] < n for group, n in groups.items() if n != 2)
    assert all(trained.values())


@pytest.mark.parametrize('number, held_out', [(2, 1), (10, 1), (226, 23), (805, 80)])
def test_by_image_holds_out_a_tenth_of_the_slices(number, held_out):
    keys = keys_of(['SC-N-1'], number)
    parts = sunnybrook.split_by_image(keys)
    assert set(parts) == {'train', 'test'} and len(parts['test']) == held_out
    assert sorted(parts['train'] + parts['test']) == keys


@pytest.mark.parametrize('split', [sunnybrook.split_by_patient, sunnybrook.split_by_image])
def test_the_order_in_which_files_are_found_does_not_matter(split):
    keys = keys_of([f'SC-N-{i}' for i in range(7)])
    assert split(keys) == split(keys[::-1]) == split(keys)


def test_too_few_patients_or_slices_are_refused():
    with pytest.raises(UserError, match='needs 3 patients.*SC-N-1, SC-N-2.*by_image'):
        sunnybrook.split_by_patient(keys_of(['SC-N-1', 'SC-N-2']))
    with pytest.raises(UserError, match='needs 2 slices'):
        sunnybrook.split_by_image(keys_of(['SC-N-1'], 1))


@pytest.mark.parametrize('name, manual_dir, parts', [
    ('sunnybrook/by_slice', '.', ("no configuration 'by_slice'", 'by_image')),
    ('sunnybrook/by_image', 'missing', ('missing', '--config.data.manual_dir', 'cardiacatlas.org')),
])
def test_a_wrong_name_or_folder_is_one_line(name, manual_dir, parts, tmp_path):
    with pytest.raises(UserError) as error:
        prepared_data.prepare(tmp_path, name, download=False, manual_dir=str(tmp_path / manual_dir))
    assert all(part in str(error.value) for part in parts) and '\n' not in str(error.value)


def test_prepared_slices_are_read_with_their_masks_and_facts(by_case, tmp_path, monkeypatch):
    """Through the source that training uses: resized to the model's size, spacing with them."""
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    data = base().data
    data.update(name='sunnybrook/by_patient', data_dir=str(tmp_path / 'tfds'), manual_dir=str(by_case))
    for _ in range(2):  # prepared and decoded; then from the cache
        source = sources.open_split(data, {'size': (32, 32), 'channels': 1}, 'train')
        assert source.info.to_json() == {'class_names': ['background', 'left_ventricle'], 'contour_origin': [1.0, 1.0]}
        examples, facts = source.read(np.arange(len(source))), source.describe(np.arange(len(source)))
        assert examples['image'].shape == (len(source), 32, 32, 1)
        assert examples['segmentation_mask'].shape == (len(source), 32, 32)
        assert set(np.unique(examples['segmentation_mask'])) == {0, 1}
        assert all({'patient', 'slice'} <= set(fact) for fact in facts)
    whole = sources.open_split(data, {'size': (64, 64), 'channels': 1}, 'train').describe(np.arange(len(source)))
    for fact, doubled in zip(whole, facts):
        assert fact.get('spacing_mm') is None or np.allclose(2 * np.array(fact['spacing_mm']), doubled['spacing_mm'])
    assert any('spacing_mm' in fact for fact in facts) and not all('spacing_mm' in fact for fact in facts)


def test_prepared_data_are_kept_and_a_warning_says_so_when_files_have_changed(by_case, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    data = base().data
    data.update(name='sunnybrook/by_image', data_dir=str(tmp_path / 'tfds'), manual_dir=str(by_case))

    def warnings_of_opening():
        caplog.clear()
        sources.open_split(data, {'size': (32, 32), 'channels': 1}, 'train')
        return [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings_of_opening() == [] and warnings_of_opening() == []
    write_contour(by_case / 'contours', CASES[0], 8, ring(5))
    warning, = warnings_of_opening()
    assert 'by_image' in warning and str(by_case) in warning and 'remove the folder' in warning


def test_a_folder_named_like_a_patient_of_the_release_above_the_data_changes_nothing(by_case, tmp_path):
    moved = by_case.rename(tmp_path / 'SCD2009')
    examples, report = sunnybrook.read_folder(moved)
    assert len(examples) == 3 * len(CASES) and report['skipped'] == {}
