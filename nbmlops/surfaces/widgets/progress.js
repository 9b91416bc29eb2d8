// Jobs with their steps as they go on, and the answer that a step waits for.

/** Ask for a yes or no; what is typed stays while the steps around it change. */
const answering = (job, step, ask) => {
  const reason = put('input', { type: 'text', placeholder: 'Reason', 'aria-label': `Reason for ${step}`, dir: 'auto' });
  const told = put('div', { class: 'nbmlops-told' });
  const question = word => () => ({ do: word, job, step, reason: reason.value });
  const yes = confirmed('Approve', ask, told, question('approve'));
  const no = confirmed('Reject', ask, told, question('reject'));
  const label = put('span', {}, put('bdi', { text: step }), ' waits for an answer');
  return put('div', { class: 'nbmlops-waits' }, put('div', { class: 'nbmlops-bar' }, label, reason, yes, no), told);
};

const stepsOf = ({ steps }) =>
  table(
    ['step', 'state', 'took (s)', 'attempt', 'message'],
    steps.map(each => [put('bdi', { text: each.step }), badge(each.status), each.took, each.attempt, each.message]),
  );

const render = ({ model, el }) => {
  const ask = asking(model);
  const kept = new Map();
  const answerOf = (job, step) => {
    const key = JSON.stringify([job, step]);
    if (!kept.has(key)) kept.set(key, answering(job, step, ask));
    return kept.get(key);
  };
  const shown = sections(el, 'Job');
  const draw = ({ jobs, name, trouble }) => {
    for (const job of jobs) {
      const { head, below } = shown.of(job.job);
      head.replaceChildren(
        put('div', { class: 'nbmlops-head' }, put('bdi', { text: job.title }), badge(job.status), job.detail),
        ...(job.message ? [put('div', { dir: 'auto', text: job.message })] : []),
        ...(job.steps.length ? [stepsOf(job)] : []),
      );
      const waits = job.steps.filter(each => each.isWaiting).map(each => answerOf(job.job, each.step));
      // an answer that was given stays, with what came of it
      for (const answer of waits) if (answer.parentNode !== below) below.append(answer);
    }
    const nothing = jobs.length ? [] : [put('div', { text: `${name || 'No job'} has not begun yet.` })];
    const alarm = trouble ? [put('div', { role: 'alert', text: trouble })] : [];
    shown.show(jobs.map(each => each.job), ...nothing, ...alarm);
  };
  return follow(model, el, draw);
};

export default { render };
