'use strict';

// Okabe & Ito 2008, as tasks/box_drawing.py has them.
const COLOURS = ['#e69f00', '#56b4e9', '#009e73', '#f0e442', '#0072b2', '#d55e00', '#cc79a7'];
const DRAWN_SIDE = 64;    // largest side of images for which a drawing makes sense
const MARGIN = 0.15;      // around a drawing, of its longer side
const byId = id => document.getElementById(id);

let token = '';
let model = null;         // what the server says of the chosen one
let shown = null;         // address of the image that is shown
let asked = 0;            // number of the latest question; answers to older ones are not shown
let last = null;          // the latest image, to ask about again

async function ask(path, options = {}) {
  const headers = token ? {Authorization: 'Bearer ' + token} : {};
  let response;
  try {
    response = await fetch(path, {...options, headers});
  } catch {
    throw new Error('the server does not answer');
  }
  if (response.status === 401) byId('login').hidden = false;
  const found = await response.json().catch(() => ({error: 'status ' + response.status}));
  if (!response.ok) throw new Error(found.error);
  return found;
}

function element(name, text = '', attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function fail(error) {
  byId('error').textContent = error.message;
  byId('error').hidden = false;
}

function forget() {
  byId('error').hidden = true;
  byId('answer').replaceChildren();
  byId('boxes').replaceChildren();
  byId('latency').textContent = '';
  byId('seen').hidden = byId('views').hidden = true;
}

// --- the model ---

async function start() {
  forget();
  try {
    const names = (await ask('v2/models')).models;
    byId('login').hidden = true;
    byId('model').replaceChildren(...names.map(name => element('option', name, {value: name})));
    byId('choice').hidden = names.length < 2;
    await choose(names[0]);
  } catch (error) {
    byId('facts').textContent = '';
    fail(error);
  }
}

async function choose(name) {
  forget();
  last = null;
  byId('file').value = '';
  const number = ++asked;
  const found = await ask('v2/models/' + encodeURIComponent(name));
  if (number !== asked) return;
  model = found;
  const known = model.parameters;
  const parts = [model.name, known.task && known.task.replaceAll('_', ' '), known.labels.length && known.labels.length + ' classes',
                 known.image_size && known.image_size.join(' x ') + ' pixels', 'version ' + known.version];
  byId('facts').textContent = parts.filter(Boolean).join(', ');
  byId('asking').hidden = !known.image_size;
  if (!known.image_size) fail(new Error(model.name + ' looks at no images: ask it at /v2/models/' + model.name + '/infer'));
  byId('drawing').hidden = !(known.task === 'classification' && known.image_size && known.frames === 1 &&
                             Math.max(...known.image_size) <= DRAWN_SIDE);
  wipe();
}

// --- the question ---

async function question(blob) {
  last = blob;
  const number = ++asked;
  const query = new URLSearchParams({invert: byId('invert').checked});
  if (model.parameters.takes_top_k) query.set('top_k', 5);
  if (model.parameters.task === 'segmentation') query.set('files', 'overlay.png');
  const begin = performance.now();
  try {
    const said = await ask(`v2/models/${encodeURIComponent(model.name)}/predict?${query}`, {method: 'POST', body: blob});
    if (number !== asked) return;
    forget();
    const whole = performance.now() - begin;
    byId('latency').textContent = `${said.milliseconds.toFixed(1)} ms in the server, ${whole.toFixed(0)} ms in all`;
    await show(said, blob);
  } catch (error) {
    if (number !== asked) return;
    forget();
    fail(error);
  }
}

// --- the answer ---

async function show(said, blob) {
  const found = said.prediction;
  if (shown) URL.revokeObjectURL(shown);
  shown = URL.createObjectURL(blob);
  const image = byId('image');
  const overlay = said.files && said.files['overlay.png'];
  const picture = () => overlay && byId('overlay').checked ? 'data:image/png;base64,' + overlay : shown;
  byId('overlay').onchange = () => { image.src = picture(); };
  byId('views').hidden = !overlay;
  image.onload = () => {
    image.className = Math.max(image.naturalWidth, image.naturalHeight) <= 192 ? 'small' : '';
    byId('seen').hidden = false;
  };
  image.onerror = () => { byId('seen').hidden = true; };   // a format that the server reads and the browser does not
  image.src = picture();
  const answer = byId('answer');
  if ('caption' in found) answer.append(element('p', found.caption || 'no word', {class: 'caption'}));
  else if (Array.isArray(found.classes)) answer.append(...bars(found));
  else if (found.objects) answer.append(objects(found));
  else if (found.classes) answer.append(areas(found.classes));
  else answer.append(table(['', ''], Object.entries(found).map(([name, value]) => [name, String(value)])));
}

function bars(found) {
  const rows = found.classes.map((name, index) => {
    const row = element('tr', '', index ? {} : {class: 'first'});
    const bar = element('td', '', {class: 'bar'});
    bar.append(element('div'));
    bar.firstChild.style.width = found.percent[index] + '%';
    row.append(element('th', name, {scope: 'row'}), bar, element('td', percent(found.percent[index]), {class: 'number'}));
    return row;
  });
  const made = element('table');
  made.append(element('tbody'));
  made.firstChild.append(...rows);
  const decision = found.decision ? [element('p', found.decision, {class: 'caption'})] : [];
  return [...decision, rows.length ? made : element('p', 'no class is likely enough', {class: 'caption'})];
}

function objects(found) {
  const names = Object.keys(found.counts);
  const colour = name => COLOURS[names.indexOf(name) % COLOURS.length];
  const svg = byId('boxes');
  svg.setAttribute('viewBox', `0 0 ${found.width} ${found.height}`);
  svg.setAttribute('preserveAspectRatio', 'none');
  for (const one of found.objects) {
    const [left, top, right, bottom] = one.box;
    const box = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
    const places = {x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top),
                    stroke: colour(one.class)};
    for (const [key, value] of Object.entries(places)) box.setAttribute(key, value);
    const title = document.createElementNS('http://www.w3.org/2000/svg', 'title');
    title.textContent = `${one.class} ${percent(one.percent)}`;
    box.append(title);
    svg.append(box);
  }
  const made = table(['found', 'how many'], Object.entries(found.counts));
  made.querySelectorAll('th[scope="row"]').forEach(cell => {
    const swatch = element('span', '', {class: 'swatch'});
    swatch.style.background = colour(cell.textContent);
    cell.prepend(swatch);
  });
  return made;
}

function areas(classes) {
  const spaced = Object.values(classes).some(found => 'area_mm2' in found);
  return table(['class', 'pixels', 'parts', ...(spaced ? ['mm2'] : [])], Object.entries(classes).map(
    ([name, found]) => [name.replaceAll('_', ' '), found.pixels, found.components, ...(spaced ? [found.area_mm2] : [])]));
}

function table(heads, rows) {
  const made = element('table');
  if (heads.some(Boolean)) {
    made.append(element('thead'));
    made.lastChild.append(element('tr'));
    made.lastChild.firstChild.append(...heads.map((head, index) => element('th', head, {scope: 'col', class: index ? 'number' : ''})));
  }
  made.append(element('tbody'));
  made.lastChild.append(...rows.map(([name, ...values]) => {
    const row = element('tr');
    row.append(element('th', name, {scope: 'row'}), ...values.map(
      value => element('td', typeof value === 'number' ? value.toLocaleString('en') : value, {class: 'number'})));
    return row;
  }));
  return made;
}

const percent = value => value.toFixed(value >= 99.95 || value < 0.05 ? 2 : 1) + ' %';

// --- drawing ---

const canvas = byId('canvas');
const pen = canvas.getContext('2d', {willReadFrequently: true});
let stroke = null;
let drawn = null;         // left, top, right, bottom of what has ink

function wipe() {
  pen.fillStyle = '#000';
  pen.fillRect(0, 0, canvas.width, canvas.height);
  drawn = stroke = null;
}

function place(event) {
  const edge = canvas.getBoundingClientRect();
  return [(event.clientX - edge.left) * canvas.width / edge.width, (event.clientY - edge.top) * canvas.height / edge.height];
}

function draw(from, to) {
  pen.strokeStyle = '#fff';
  pen.lineWidth = canvas.width / 11;
  pen.lineCap = pen.lineJoin = 'round';
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
  const half = pen.lineWidth / 2;
  drawn = drawn || [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of [from, to]) {
    drawn = [Math.min(drawn[0], x - half), Math.min(drawn[1], y - half), Math.max(drawn[2], x + half), Math.max(drawn[3], y + half)];
  }
}

// What was drawn in the middle of a square: digits of data sets fill theirs, whatever their first size.
function square() {
  const [left, top, right, bottom] = drawn;
  const side = Math.max(right - left, bottom - top) * (1 + 2 * MARGIN);
  const cut = document.createElement('canvas');
  cut.width = cut.height = canvas.width;
  const onto = cut.getContext('2d');
  onto.fillStyle = '#000';
  onto.fillRect(0, 0, cut.width, cut.height);
  onto.drawImage(canvas, (left + right - side) / 2, (top + bottom - side) / 2, side, side, 0, 0, cut.width, cut.height);
  return new Promise(resolve => cut.toBlob(resolve, 'image/png'));
}

canvas.addEventListener('pointerdown', event => {
  canvas.setPointerCapture(event.pointerId);
  stroke = place(event);
  draw(stroke, stroke);
});
canvas.addEventListener('pointermove', event => {
  if (!stroke) return;
  const next = place(event);
  draw(stroke, next);
  stroke = next;
});
for (const end of ['pointerup', 'pointercancel']) {
  canvas.addEventListener(end, async () => {
    if (!stroke) return;
    stroke = null;
    question(await square());
  });
}
byId('clear').addEventListener('click', () => { wipe(); forget(); });

// --- files ---

const drop = byId('drop');
byId('file').addEventListener('click', event => { event.target.value = ''; });   // the same file again is a question, too
byId('file').addEventListener('change', event => { if (event.target.files[0]) question(event.target.files[0]); });
for (const name of ['dragenter', 'dragover']) {
  document.addEventListener(name, event => { event.preventDefault(); drop.classList.add('over'); });
}
for (const name of ['dragleave', 'drop']) {
  document.addEventListener(name, event => { event.preventDefault(); drop.classList.remove('over'); });
}
document.addEventListener('drop', event => { if (event.dataTransfer.files[0] && model) question(event.dataTransfer.files[0]); });
byId('invert').addEventListener('change', () => { if (last) question(last); });
byId('model').addEventListener('change', event => choose(event.target.value).catch(fail));
byId('login').addEventListener('submit', event => { event.preventDefault(); token = byId('token').value; start(); });
start();
