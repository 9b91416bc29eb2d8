// An endpoint's versions: their shares to set, what they have done, and promote or rollback.

const numbers = ({ versions }) =>
  table(
    ['version', 'role', 'share', 'requests', 'errors', 'p99'],
    versions.map(each => [
      each.version,
      each.role,
      each.role === 'shadow' ? '' : `${each.weight}%`,
      each.requests,
      each.errors,
      each.p99,
    ]),
  );

/** A slider for the share of the version that is tried; it goes with the endpoint until somebody moves it. */
const sharing = (name, old, tried, ask) => {
  const slider = put('input', { type: 'range', min: '0', max: '100', step: '1' });
  slider.setAttribute('aria-label', visible(`Share of version ${tried} in percent`));
  const label = put('output');
  const preview = put('div', { class: 'nbmlops-preview', role: 'status' });
  let isMoved = false;
  const show = () => (label.textContent = visible(`${tried} ${slider.value}%`));
  const question = () => {
    const share = Number(slider.value);
    return { do: 'traffic', endpoint: name, weights: { [old]: 100 - share, [tried]: share } };
  };
  slider.addEventListener('input', () => {
    isMoved = true;
    show();
  });
  slider.addEventListener('change', async () => {
    const would = await ask({ ...question(), dry_run: true });
    preview.replaceChildren(put('code', { text: would.line }), ` ${would.said}`);
  });
  const set = weight => {
    isMoved = isMoved && Number(slider.value) !== weight;
    if (isMoved) return;
    slider.value = weight;
    show();
  };
  return { question, set, parts: [put('div', { class: 'nbmlops-bar' }, slider, label), preview] };
};

/** The controls of one endpoint, and how they go with it; `told` takes what is said. */
const controls = ({ name, model, alias, versions }, ask, told) => {
  const of = role => versions.find(each => each.role === role)?.version;
  const tried = of('challenger');
  const back = confirmed('Roll back', ask, told, () => ({ do: 'rollback', model, alias }));
  if (!tried) return { parts: [put('div', { class: 'nbmlops-bar' }, back)], go: () => undefined };
  const share = sharing(name, of('champion'), tried, ask);
  const set = confirmed('Set shares', ask, told, share.question);
  const promote = confirmed(`Promote ${tried}`, ask, told, () => ({ do: 'promote', model, alias, version: tried }));
  const go = endpoint => share.set(endpoint.versions.find(each => each.version === tried).weight);
  return { parts: [...share.parts, put('div', { class: 'nbmlops-bar' }, set, promote, back)], go };
};

const render = ({ model, el }) => {
  const ask = asking(model);
  const served = new Map(); // by endpoint: its controls, and the versions for which they are made
  const drawControls = (below, endpoint) => {
    const versions = JSON.stringify([endpoint.alias, endpoint.versions.map(each => [each.version, each.role])]);
    if (served.get(endpoint.name)?.versions !== versions) {
      const told = below.lastChild ?? put('div', { class: 'nbmlops-told' }); // what came of the last click stays
      const made = controls(endpoint, ask, told);
      served.set(endpoint.name, { versions, go: made.go });
      below.replaceChildren(...made.parts, told);
    }
    served.get(endpoint.name).go(endpoint);
  };
  const shown = sections(el, 'Endpoint');
  const draw = ({ endpoints, trouble }) => {
    for (const endpoint of endpoints) {
      const { head, below } = shown.of(endpoint.name);
      head.replaceChildren(
        put('div', { class: 'nbmlops-head' }, put('bdi', { text: endpoint.title }), badge(endpoint.status), endpoint.detail),
        numbers(endpoint),
        ...[endpoint.rollout, endpoint.trouble].filter(Boolean).map(text => put('div', { dir: 'auto', text })),
      );
      drawControls(below, endpoint);
    }
    const nothing = endpoints.length ? [] : [put('div', { text: 'There is no such endpoint now.' })];
    const alarm = trouble ? [put('div', { role: 'alert', text: trouble })] : [];
    shown.show(endpoints.map(each => each.name), ...nothing, ...alarm);
  };
  return follow(model, el, draw);
};

export default { render };
