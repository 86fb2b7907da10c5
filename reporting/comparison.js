// Tables sort by a click on a header; a run that is pointed at lights up in the tables and in all charts.
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  table.querySelectorAll('thead th').forEach((header, column) => {
    const button = document.createElement('button');
    button.textContent = header.textContent;
    header.replaceChildren(button);
    button.addEventListener('click', () => {
      const down = header.getAttribute('aria-sort') === 'ascending';
      table.querySelectorAll('thead th').forEach(other => other.removeAttribute('aria-sort'));
      header.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      const key = row => row.cells[column].dataset.v;
      const number = header.classList.contains('n');
      [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === '' || y === '') return (x === '') - (y === '');  // what is missing stays last
        const order = number ? x - y : x.localeCompare(y, 'en', {numeric: true});
        return down ? -order : order;
      }).forEach(row => body.append(row));
    });
  });
}
const charts = document.querySelector('.charts');
const light = (element, on) => {
  const owner = element.target.closest('[data-run]');
  if (!owner) return;
  if (owner.tagName === 'TR') charts.classList.toggle('lit', on);
  document.querySelectorAll(`[data-run="${owner.dataset.run}"]`).forEach(each => each.classList.toggle('on', on));
};
document.addEventListener('pointerover', event => light(event, true));
document.addEventListener('pointerout', event => light(event, false));
