// What the views share: elements made of text alone, questions to the kernel, a second click that confirms.
// It stands before each view's own source, in one module. Nothing here or there ever reads text as HTML.

const TAKES_KEYS = ['button', 'input', 'summary'];

const [MOST_LINES, LONGEST] = [500, 2000]; // of a text, and letters of a line, that are shown
// eslint-disable-next-line no-control-regex
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Cut what is long, and show what nobody would see, such as marks that turn a line's direction around. */
const visible = text => {
  const lines = String(text).split('\n').slice(0, MOST_LINES);
  return lines.map(each => each.slice(0, LONGEST).replace(UNSEEN, '\ufffd')).join('\n');
};

/** Make an element: `text` is its text, names that begin with "on" are listeners, the others attributes. */
const put = (tag, given = {}, ...children) => {
  const made = document.createElement(tag);
  if (TAKES_KEYS.includes(tag)) made.setAttribute('data-lm-suppress-shortcuts', 'true'); // its keys are not the notebook's
  for (const [name, value] of Object.entries(given)) {
    if (name === 'text') made.textContent = visible(value);
    else if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, visible(value));
  }
  made.append(...children.map(each => (typeof each === 'string' ? visible(each) : each)));
  return made;
};

/** Make a table of texts; a cell may also be an element. */
const table = (columns, rows) =>
  put(
    'table',
    {},
    put('thead', {}, put('tr', {}, ...columns.map(text => put('th', { scope: 'col', text })))),
    put('tbody', {}, ...rows.map(cells => put('tr', {}, ...cells.map(each => put('td', {}, each))))),
  );

/** The word for a state, in its colour. */
const badge = status => put('span', { class: 'nbmlops-state', 'data-state': status, text: status });

const PATIENCE_MS = 60_000;

/** Give a function that asks the kernel to do something, and resolves with its answer. */
const asking = model => question =>
  new Promise(resolve => {
    const id = named();
    const end = answer => {
      clearTimeout(timer);
      model.off('msg:custom', take);
      resolve(answer);
    };
    const take = answer => answer.id === id && end(answer);
    const silence = 'The kernel has not answered: it is busy, or has ended.';
    const timer = setTimeout(() => end({ line: '', said: silence, text: silence, is_error: true }), PATIENCE_MS);
    model.on('msg:custom', take);
    model.send({ ...question, id });
  });

const named = () => crypto.randomUUID?.() ?? `${Math.random()}`;

/** Tell the kernel while somebody sees the view: only then it looks how things are. Gives what ends that. */
const seen = (model, el) => {
  const view = named(); // there may be several of one model
  let isOnScreen = false;
  let told = false;
  const tell = () => {
    const now = isOnScreen && document.visibilityState === 'visible';
    if (now || told) model.send({ seen: now, view });
    told = now;
  };
  const observer = new IntersectionObserver(entries => {
    isOnScreen = entries[entries.length - 1].isIntersecting;
    tell();
  });
  observer.observe(el);
  document.addEventListener('visibilitychange', tell);
  const again = setInterval(() => told && tell(), 300_000);
  return () => {
    observer.disconnect();
    document.removeEventListener('visibilitychange', tell);
    clearInterval(again);
    isOnScreen = false;
    tell();
  };
};

/** Show in `place` what a verb did, or would do. */
const tellIn = (place, answer, ...more) =>
  place.replaceChildren(
    put('code', { text: answer.line }),
    put('pre', { text: answer.text, role: 'status', 'data-error': answer.is_error }),
    ...more,
  );

/**
 * A button whose first click shows in `place` what would happen, and whose second one, on another button there, does it.
 * `question` gives what the kernel is asked for.
 */
const confirmed = (label, ask, place, question) => {
  const button = put('button', { type: 'button', text: label });
  const say = words => place.replaceChildren(put('span', { text: words, role: 'status' }));
  const act = async asked => {
    say('Working …');
    button.focus();
    tellIn(place, await ask(asked));
  };
  const cancel = () => {
    place.replaceChildren();
    button.focus();
  };
  button.addEventListener('click', async () => {
    say('Looking what would happen …');
    const asked = question(); // what is confirmed is what was shown, whatever has moved since
    const would = await ask({ ...asked, dry_run: true });
    if (would.is_error) return tellIn(place, would);
    const yes = put('button', { type: 'button', class: 'nbmlops-yes', text: `Confirm: ${label}`, onclick: () => act(asked) });
    const no = put('button', { type: 'button', text: 'Cancel', onclick: cancel });
    tellIn(place, would, yes, no);
    no.focus();
  });
  return button;
};

/** Sections of a view by their names: in each a head that is drawn anew, and below it what stays. */
const sections = (el, label) => {
  const known = new Map();
  const made = name => {
    const section = { head: put('div'), below: put('div') };
    section.whole = put('section', { 'aria-label': `${label} ${name}` }, section.head, section.below);
    return section;
  };
  const of = name => {
    if (!known.has(name)) known.set(name, made(name));
    return known.get(name);
  };
  const show = (names, ...more) => {
    const wanted = [...names.map(name => of(name).whole), ...more];
    const isSame = wanted.length === el.children.length && wanted.every((each, n) => el.children[n] === each);
    if (!isSame) el.replaceChildren(...wanted); // moved, what is typed would lose its cursor
  };
  return { of, show };
};

/** Draw a view now and whenever its state changes, until it is closed. */
const follow = (model, el, draw) => {
  el.classList.add('nbmlops-view');
  const again = () => draw(model.get('state'));
  model.on('change:state', again);
  const stop = seen(model, el);
  again();
  return () => {
    model.off('change:state', again);
    stop();
  };
};
