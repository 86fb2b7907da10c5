"""The page of `launch.py serve` in a real browser: Chromium of the system, driven by Playwright; skipped without."""

import shutil
import tomllib

import pytest
from PIL import Image

from practicum.deployment.export import export_run
from practicum.deployment.server import Limits
from practicum.inference.run import Run
from tests.conftest import ROOT
from tests.deployment.running import Running

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
PAGE = ROOT / 'deployment' / 'page'


@pytest.fixture(scope='module')
def exported(trained_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp('exported')
    export_run(Run(trained_run), folder / 'digits.zip', platforms=('cpu',))
    return shutil.copy(folder / 'digits.zip', folder / 'others.zip').parent


@pytest.fixture(scope='module')
def running(exported):
    found = Running(exported / 'digits.zip', exported / 'others.zip', limits=Limits(max_batch=2), token='secret-token')
    yield found
    found.stop()


def test_it_is_served_whole_and_names_no_other_place(running):
    for path, kind in (('/', 'text/html'), ('/page.css', 'text/css'), ('/page.js', 'text/javascript')):
        status, headers, content = running.ask(path)
        assert status == 200 and headers['content-type'].startswith(kind)
        policy = headers['content-security-policy']
        assert "default-src 'none'" in policy and 'unsafe' not in policy
        assert headers['x-content-type-options'] == 'nosniff'
        assert b'http://' not in content.replace(b'http://www.w3.org/', b'') and b'https://' not in content
    html = running.ask('/')[2].decode()
    assert '<style' not in html and ' style=' not in html and ' onclick' not in html  # the policy forbids them


def test_one_model_after_the_other_is_asked_in_a_browser(running, tmp_path):
    playwright = pytest.importorskip('playwright.sync_api')
    if CHROMIUM is None:
        pytest.skip('no Chromium')
    Image.effect_noise((80, 80), 60).save(tmp_path / 'digit.png')
    complaints = []
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        page = browser.new_page()
        page.on('console', lambda message: complaints.append(message.text) if message.type == 'error' else None)
        page.on('pageerror', lambda error: complaints.append(str(error)))
        page.goto(f'http://127.0.0.1:{running.port}/')
        page.locator('#login').wait_for()
        page.fill('#token', 'secret-token')
        page.locator('#login button').click()
        page.locator('#asking').wait_for()
        assert page.locator('#model option').all_text_contents() == ['digits', 'others']
        assert [complaint for complaint in complaints if '401' not in complaint] == []
        complaints.clear()

        page.set_input_files('#file', tmp_path / 'digit.png')
        page.locator('#seen').wait_for()
        assert page.locator('#answer tr').count() == 5 and 'ms in the server' in page.locator('#latency').text_content()
        page.select_option('#model', 'others')
        page.locator('#answer:empty').wait_for(state='attached')

        box = page.locator('#canvas').bounding_box()
        page.mouse.move(box['x'] + 90, box['y'] + 60)
        page.mouse.down()
        page.mouse.move(box['x'] + 180, box['y'] + 200, steps=4)
        page.mouse.up()
        page.locator('#answer:not(:empty)').wait_for()
        assert '%' in page.locator('#answer').inner_text()
        with page.expect_response('**/predict?*invert=true*') as answer:
            page.check('#invert')  # asks again about the same drawing
        assert answer.value.status == 200

        (tmp_path / 'text.txt').write_text('no image')
        page.set_input_files('#file', tmp_path / 'text.txt')
        page.locator('#error:not([hidden])').wait_for()
        assert 'not a BMP' in page.locator('#error').text_content()
        browser.close()
    assert [complaint for complaint in complaints if '400' not in complaint] == []


def test_it_is_installed():
    settings = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['setuptools']
    assert settings['package-data']['practicum.deployment'] == ['page/*'] and len(list(PAGE.iterdir())) == 3
