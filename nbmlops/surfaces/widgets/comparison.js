// Runs as rows to sort, filter and pick the columns of.

const compared = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** Order rows by a column: numbers by size, texts by letters, what is empty last either way. */
const sorted = (rows, column, isUp) => {
  const isEmpty = row => column.texts[row] === '';
  const order = (a, b) => {
    if (isEmpty(a) || isEmpty(b)) return compared(isEmpty(a), isEmpty(b));
    const [x, y] = [column.numbers[a], column.numbers[b]];
    const by = x !== null && y !== null ? compared(x, y) : column.texts[a].localeCompare(column.texts[b]);
    return isUp ? by : -by;
  };
  return [...rows].sort(order);
};

const render = ({ model, el }) => {
  const { columns } = model.get('state');
  const every = columns[0].texts.map((_, row) => row);
  const picked = new Set(columns.filter(column => column.isShown));
  let by = null;
  let isUp = true;

  const filter = put('input', { type: 'search', placeholder: 'Filter runs', 'aria-label': 'Filter runs' });
  const count = put('span', { role: 'status' });
  const place = put('div', { class: 'nbmlops-scroll' });

  const header = column => {
    const arrow = column === by ? (isUp ? ' ▲' : ' ▼') : '';
    const sort = () => {
      isUp = column === by ? !isUp : column.kind !== 'metric';
      by = column;
      draw();
      place.querySelector(`th:nth-child(${shown().indexOf(column) + 1}) button`)?.focus();
    };
    const order = column === by ? (isUp ? 'ascending' : 'descending') : 'none';
    const button = put('button', { type: 'button', title: column.kind, onclick: sort }, put('bdi', { text: column.name }));
    button.append(arrow);
    return put('th', { scope: 'col', 'aria-sort': order }, button);
  };
  const shown = () => columns.filter(column => picked.has(column));
  const draw = () => {
    const asked = filter.value.toLowerCase();
    const found = every.filter(row => columns.some(({ texts }) => texts[row].toLowerCase().includes(asked)));
    const rows = by ? sorted(found, by, isUp) : found;
    const line = row => put('tr', {}, ...shown().map(({ texts }) => put('td', { dir: 'auto', text: texts[row] })));
    const head = put('thead', {}, put('tr', {}, ...shown().map(header)));
    place.replaceChildren(put('table', {}, head, put('tbody', {}, ...rows.map(line))));
    count.textContent = found.length === every.length ? `${every.length} runs` : `${found.length} of ${every.length} runs`;
  };
  const choice = column => {
    const box = put('input', { type: 'checkbox' });
    box.checked = picked.has(column);
    box.addEventListener('change', () => {
      box.checked ? picked.add(column) : picked.delete(column);
      draw();
    });
    return put('label', {}, box, put('bdi', { text: column.name }), put('small', { text: column.kind }));
  };

  filter.addEventListener('input', draw);
  el.classList.add('nbmlops-view');
  el.append(
    put('div', { class: 'nbmlops-bar' }, filter, count),
    put('details', {}, put('summary', { text: 'Columns' }), put('div', { class: 'nbmlops-picks' }, ...columns.map(choice))),
    place,
  );
  draw();
};

export default { render };
