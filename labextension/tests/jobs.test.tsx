/** Jobs: the section, the form of a run, the pages of a job and of a pipeline, in each of their states. */

import { act, cleanup, fireEvent, render, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import * as React from 'react';
import { afterEach, describe, expect, it } from 'vitest';

import { Refusal } from '../src/client';
import { laidOut } from '../src/components/graph';
import { duration, mayResume, sorted, urgent, whenNext } from '../src/components/job';
import { lastLines, LINES } from '../src/components/log';
import { changed, kindOf, spelled, undeclared } from '../src/components/parameters';
import { Proposal } from '../src/components/proposal';
import { below, JobPage } from '../src/pages/job';
import { PipelinePage, stateOf } from '../src/pages/pipeline';
import { EVENT } from '../src/tokens';
import { Job, JobStep, Parameter, Upcoming, VerbSchema } from '../src/types';
import { JobsView } from '../src/views/jobs';
import { PROJECT, Stand, stand } from './doubles';

const HOSTILE = `<img src=x onerror=alert(1)><svg onload=alert(2)> javascript:alert(3) \u202egnp.exe`;
const NOON = Date.parse('2026-07-01T12:00:00Z');

afterEach(cleanup);

function job(more: Partial<Job> = {}): Job {
  return {
    job: 'aaaaaaaaaaaa',
    name: 'train',
    status: 'FINISHED',
    began_at: '2026-07-01T11:59:00Z',
    duration_s: 12,
    cell: '',
    message: '',
    run_id: '',
    output: '',
    notebook: 'train.ipynb',
    parameters: {},
    given: {},
    owner: {},
    resumed: '',
    exit_code: 0,
    steps: [],
    kind: 'job',
    ...more
  };
}

function step(more: Partial<JobStep> = {}): JobStep {
  return {
    job: 'bbbbbbbbbbbb',
    pipeline: 'retrain',
    step: 'train',
    status: 'FINISHED',
    began_at: '2026-07-01T11:59:00Z',
    duration_s: 3,
    attempt: 1,
    message: '',
    run_id: '',
    kind: 'step',
    ...more
  };
}

function schedule(more: Partial<Upcoming> = {}): Upcoming {
  return {
    name: 'retrain',
    target: 'retrain',
    next_at: '2026-07-01T14:00:00Z',
    paused: false,
    schedule: '0 14 * * *',
    timezone: 'UTC',
    triggers: [],
    last: '',
    problem: '',
    kind: 'schedule',
    ...more
  };
}

function parameter(more: Partial<Parameter> = {}): Parameter {
  const month = { name: 'month', type: 'int', default: 1, help: 'of 2013', choices: [], is_required: false };
  return { ...month, kind: 'whole number', is_secret: false, ...more };
}

function nothingBut(container: HTMLElement): void {
  expect(container.querySelector('img, script, [onerror], [onload], a[href], iframe')).toBeNull();
  expect(container.textContent).not.toContain('\u202e');
}

async function jobsView(rows: readonly unknown[]): Promise<Stand & { container: HTMLElement }> {
  const place = await stand({ jobs: rows });
  const { container } = render(<JobsView />, { wrapper: place.Around });
  return { ...place, container };
}

describe('jobs', () => {
  it('that run stand first, with their cell; those that failed tell why and can be resumed', async () => {
    const failed = job({ job: 'cccccccccccc', name: 'report', status: 'FAILED', message: 'ValueError: no month' });
    const running = job({ status: 'RUNNING', cell: 'cell 3 [In 3]: fit()', began_at: new Date().toISOString() });
    const { proposed, opened } = await jobsView([failed, running]);
    const rows = await within(await screen.findByRole('list', { name: /Jobs/ })).findAllByRole('listitem');
    expect(rows[0].textContent).toContain('at cell 3 [In 3]: fit()');
    expect(rows[1].textContent).toContain('ValueError: no month');
    const user = userEvent.setup();
    await user.click(screen.getByRole('button', { name: 'Cancel … (train)' }));
    await user.click(screen.getByRole('button', { name: 'Resume … (report)' }));
    await user.click(screen.getByRole('button', { name: 'Logs (report)' }));
    expect(proposed.map(each => each.slice(0, 2))).toEqual([
      ['cancel', { job: running.job }],
      ['resume', { job: failed.job, detach: true }]
    ]);
    expect(opened[0][0]).toEqual({ kind: 'job', names: [failed.job] });
  });

  it('of a pipeline tell the steps that they are at', async () => {
    await jobsView([
      job({ job: 'bbbbbbbbbbbb', name: 'retrain', notebook: '', status: 'RUNNING' }),
      step({ status: 'RUNNING' })
    ]);
    expect((await screen.findByText('at train')).textContent).toBe('at train');
  });

  it('that wait show their question, and both answers', async () => {
    const waits = step({ step: 'agree', status: 'WAITING', message: 'Shall it take over?' });
    const { proposed } = await jobsView([job({ job: waits.job, status: 'WAITING' }), waits]);
    const question = await screen.findByRole('group', { name: 'retrain: agree waits for an answer' });
    expect(question.textContent).toContain('Shall it take over?');
    await userEvent.setup().click(within(question).getByRole('button', { name: /Approve/ }));
    await userEvent.setup().click(within(question).getByRole('button', { name: /Reject/ }));
    expect(proposed.map(each => each.slice(0, 2))).toEqual([
      ['approve', { job: waits.job, step: 'agree', reason: '' }],
      ['reject', { job: waits.job, step: 'agree', reason: '' }]
    ]);
  });

  it('that will start by themselves say when, and can be paused; pipelines by hand can be run', async () => {
    const byHand = { name: 'report', steps: ['collect', 'write'], problem: '', kind: 'pipeline' };
    const { proposed } = await jobsView([job(), schedule({ paused: true }), byHand]);
    const rows = await screen.findByRole('list', { name: 'Runs by itself' });
    expect(within(rows).getAllByText('paused').length).toBeGreaterThan(0);
    const user = userEvent.setup();
    await user.click(screen.getByRole('button', { name: 'Unpause … (retrain)' }));
    await user.click(screen.getByRole('button', { name: 'Run … (report)' }));
    expect(proposed.map(each => each.slice(0, 2))).toEqual([
      ['unpause', { target: 'retrain' }],
      ['run', { what: 'report', detach: true }]
    ]);
  });

  it('are none: one next step', async () => {
    const { proposed } = await jobsView([]);
    await userEvent.setup().click(await screen.findByRole('button', { name: 'Run a notebook headless' }));
    expect(proposed[0].slice(0, 2)).toEqual(['run', { detach: true }]);
  });

  it('are loading until they are known, and tell what went wrong', async () => {
    const failure = { type: 'StoreError', message: 'The ledger is out of reach.', hint: 'Start it.', exit_code: 10 };
    const place = await stand({ jobs: new Refusal(failure, 503) });
    render(<JobsView />, { wrapper: place.Around });
    expect(screen.getByRole('status', { name: 'Loading' })).toBeTruthy();
    expect((await screen.findByRole('alert')).textContent).toContain('The ledger is out of reach.');
  });

  it('show hostile texts as text alone', async () => {
    const { container } = await jobsView([
      job({ name: HOSTILE, status: HOSTILE, message: HOSTILE, cell: HOSTILE }),
      step({ step: HOSTILE, pipeline: HOSTILE, status: 'WAITING', message: HOSTILE }),
      schedule({ name: HOSTILE, schedule: HOSTILE, timezone: HOSTILE, problem: HOSTILE, last: HOSTILE }),
      { name: HOSTILE, steps: [HOSTILE], problem: '', kind: 'pipeline' },
      { schedule: HOSTILE, due_at: HOSTILE, cause: HOSTILE, state: HOSTILE, job: '', reason: HOSTILE, kind: 'firing' }
    ]);
    await screen.findAllByRole('listitem');
    nothingBut(container);
    expect(container.textContent).toContain('<img src=x onerror=alert(1)>');
  });

  it('are sorted by kind and urgency, and say how long', () => {
    const [waits, runs, done] = [job({ status: 'WAITING' }), job({ status: 'RUNNING' }), job()];
    expect(urgent([done, waits, runs])).toEqual([runs, waits, done]);
    expect(sorted([done, step(), schedule()]).steps).toEqual([step()]);
    expect(duration(runs, NOON)).toBe('60 s');
    expect(duration(done, NOON)).toBe('12 s');
    expect(whenNext(schedule({ triggers: ['drift:a'] }), NOON)).toBe('in 2 h and on drift:a');
    expect(whenNext(schedule({ problem: 'no step' }), NOON)).toBe('cannot run');
  });

  it('are not offered to be resumed twice', () => {
    const failed = job({ status: 'FAILED' });
    expect(mayResume(failed, [failed])).toBe(true);
    expect(mayResume(failed, [failed, job({ resumed: failed.job })])).toBe(false);
    expect(mayResume(job({ status: 'RUNNING' }), [])).toBe(false);
  });

  it('go on when what they waited for is answered', () => {
    const waits = job({ job: 'bbbbbbbbbbbb', status: 'WAITING' });
    expect(mayResume(waits, [waits], [step(), step({ step: 'agree', status: 'WAITING' })])).toBe(false);
    expect(mayResume(waits, [waits], [step(), step({ step: 'agree' })])).toBe(true);
    expect(mayResume(waits, [waits])).toBe(false);
  });
});

describe('the form of a run', () => {
  const schema = {
    name: 'run',
    summary: 'Run it.',
    effect: 'write',
    group: 'pipeline',
    arguments: {
      type: 'object',
      title: 'run',
      additionalProperties: false,
      required: ['what'],
      properties: {
        what: { type: 'string', option: null, description: '' },
        parameters: { type: 'object', option: '-p', description: '' }
      }
    }
  } as unknown as VerbSchema;

  async function form(parameters: unknown, args: object = { what: 'train.ipynb' }): Promise<unknown[]> {
    const place = await stand({ params: parameters });
    const performed: unknown[] = [];
    const perform = async (given: unknown): Promise<void> => void performed.push(given);
    const proposal = <Proposal schema={schema} args={{ ...args }} perform={perform} close={() => undefined} />;
    render(proposal, { wrapper: place.Around });
    return performed;
  }

  it('has a field for each declared parameter, and the line tells what is given', async () => {
    const performed = await form([
      parameter(),
      parameter({ name: 'kind', type: 'str', default: 'logistic', choices: ['logistic', 'boosting'] }),
      parameter({ name: 'fast', type: 'bool', kind: 'true/false', default: false }),
      parameter({ name: 'token', type: 'Secret', kind: 'secret', is_secret: true, default: 'env:TOKEN' })
    ]);
    const user = userEvent.setup();
    await user.type(await screen.findByRole('spinbutton', { name: /month/ }), '3');
    await user.selectOptions(screen.getByRole('combobox', { name: /kind/ }), 'boosting');
    await user.selectOptions(screen.getByRole('combobox', { name: /fast/ }), 'true');
    const line = screen.getByLabelText('The line that this stands for').textContent;
    expect(line).toContain('-p month=3 -p kind=boosting -p fast=true');
    await user.click(screen.getByRole('button', { name: 'Run' }));
    const parameters = { month: '3', kind: 'boosting', fast: 'true' };
    await waitFor(() => expect(performed).toEqual([{ what: 'train.ipynb', parameters }]));
  });

  it('marks what is required, and leaves out what is emptied again', async () => {
    await form([parameter({ is_required: true, default: null })]);
    const field = await screen.findByRole('spinbutton', { name: /month/ });
    expect(field.hasAttribute('required')).toBe(true);
    const user = userEvent.setup();
    await user.type(field, '3');
    await user.clear(field);
    expect(screen.getByLabelText('The line that this stands for').textContent).toBe('%mlops run train.ipynb');
  });

  it('says so when a secret is given as itself', async () => {
    await form([parameter({ name: 'token', type: 'Secret', kind: 'secret', is_secret: true, default: null })]);
    const user = userEvent.setup();
    const field = await screen.findByRole('textbox', { name: /token/ });
    await user.type(field, 'geheim');
    expect(screen.getByRole('alert').textContent).toContain('no reference');
    await user.clear(field);
    await user.type(field, 'env:TOKEN');
    expect(screen.queryByRole('alert')).toBeNull();
  });

  it('tells of what is given and not declared', async () => {
    await form([parameter()], { what: 'train.ipynb', parameters: { moth: '3' } });
    await screen.findByText(/declares no moth/);
    await userEvent.setup().click(screen.getByRole('button', { name: 'Leave it out' }));
    expect(screen.getByLabelText('The line that this stands for').textContent).toBe('%mlops run train.ipynb');
  });

  it('tells why parameters cannot be read', async () => {
    const failure = { type: 'NotFoundError', message: 'There is no train.ipynb.', hint: '', exit_code: 11 };
    await form(new Refusal(failure, 404));
    expect((await screen.findByRole('alert')).textContent).toContain('There is no train.ipynb.');
  });

  it('shows hostile declarations as text alone', async () => {
    const hostile = { help: HOSTILE, type: HOSTILE, default: HOSTILE, choices: [HOSTILE] };
    await form([parameter({ name: HOSTILE, ...hostile }), parameter({ ...hostile, choices: [] })]);
    await screen.findAllByText(/onerror/);
    nothingBut(document.body);
  });

  it('knows which field fits, and how a default is spelled', () => {
    expect(kindOf(parameter({ kind: 'secret', is_secret: true }))).toBe('secret');
    expect(kindOf(parameter({ kind: 'date' }))).toBe('date');
    expect(kindOf(parameter({ kind: 'list' }))).toBe('text');
    expect(spelled([1, 2])).toBe('[1,2]');
    expect(spelled(null)).toBe('');
    expect(undeclared([parameter()], { month: 1, year: 2 })).toEqual(['year']);
    expect(changed({ month: 1 }, 'month', undefined)).toBeUndefined();
  });
});

describe("a job's page", () => {
  const cells = [
    { index: 1, source_line: 'import pandas', seconds: 0.5, status: 'ok' },
    { index: 0, source_line: '# Parameters', seconds: 0, status: 'ok' },
    { index: 2, source_line: 'fit()', seconds: 2, status: 'failed' },
    { index: 3, source_line: 'log()', seconds: 0, status: 'pending' }
  ];

  it('shows cells, cause and log, and offers to resume', async () => {
    const failed = {
      ...job({ status: 'FAILED', message: 'fit() raised', run_id: 'f'.repeat(32) }),
      cells,
      attempts: []
    };
    const place = await stand({ show: failed, logs: 'read month 1\nread month 2' });
    render(<JobPage names={[failed.job]} />, { wrapper: place.Around });
    expect(await screen.findByText('fit() raised')).toBeTruthy();
    const rows = within(screen.getByRole('region', { name: 'Cells' })).getAllByRole('row');
    expect(rows.map(row => row.textContent)).toEqual([
      'cellfirst linestatetook',
      '1import pandasok0.5 s',
      'given# Parametersok0.0 s',
      '2fit()failed2.0 s',
      '3log()not reached'
    ]);
    expect((await screen.findByRole('log')).textContent).toBe('read month 1\nread month 2');
    const user = userEvent.setup();
    await user.click(screen.getByRole('button', { name: /Resume/ }));
    await user.click(screen.getByRole('button', { name: /Its run/ }));
    expect(place.proposed[0].slice(0, 2)).toEqual(['resume', { job: failed.job, detach: true }]);
    expect(place.opened[0][0]).toEqual({ kind: 'run', names: [failed.run_id] });
  });

  it('follows the log at its end, unless the person has scrolled up', async () => {
    const place = await stand({ show: { ...job({ status: 'RUNNING' }), cells, attempts: [] }, logs: 'one' });
    render(<JobPage names={['a']} />, { wrapper: place.Around });
    const log = await screen.findByRole('log');
    Object.defineProperties(log, { scrollHeight: { value: 1000 }, clientHeight: { value: 100 } });
    const grow = async (text: string, stamp: string): Promise<void> => {
      place.server.answers = { ...place.server.answers, logs: text };
      const stamps = { ...PROJECT.stamps, jobs: stamp };
      act(() => place.told.emit({ schema_id: EVENT, root: PROJECT.root, stamps } as never));
      await waitFor(() => expect(log.textContent).toBe(text));
    };
    await grow('one\ntwo', '2');
    expect(log.scrollTop).toBe(1000);
    log.scrollTop = 300;
    fireEvent.scroll(log);
    await grow('one\ntwo\nthree', '3');
    expect(log.scrollTop).toBe(300);
  });

  it("shows a pipeline's steps, with links to their runs", async () => {
    const attempts = [
      step({ run_id: 'e'.repeat(32), attempt: 2 }),
      step({ step: 'gate', status: 'PENDING', attempt: 0 })
    ];
    const place = await stand({ show: { ...job({ notebook: '', name: 'retrain' }), cells: [], attempts }, logs: '' });
    render(<JobPage names={['b']} />, { wrapper: place.Around });
    const steps = await screen.findByRole('region', { name: 'Steps' });
    await userEvent.setup().click(within(steps).getByRole('button', { name: 'eeeeeeee' }));
    expect(place.opened[0][0]).toEqual({ kind: 'run', names: ['e'.repeat(32)] });
    expect(screen.getByText('It has printed nothing yet.')).toBeTruthy();
  });

  it('shows hostile texts as text alone', async () => {
    const more = {
      name: HOSTILE,
      status: HOSTILE,
      message: HOSTILE,
      output: HOSTILE,
      parameters: { [HOSTILE]: HOSTILE }
    };
    const hostile = {
      ...job(more),
      cells: [{ index: 1, source_line: HOSTILE, seconds: 1, status: HOSTILE }],
      attempts: [step({ step: HOSTILE, message: HOSTILE, run_id: HOSTILE, status: HOSTILE })]
    };
    const place = await stand({ show: hostile, logs: HOSTILE });
    const { container } = render(<JobPage names={[HOSTILE]} />, { wrapper: place.Around });
    await screen.findByRole('log');
    nothingBut(container);
  });

  it('keeps a log of a megabyte to its last lines, and long lines short', () => {
    const { shown, isCut } = lastLines(Array.from({ length: 50_000 }, (_, n) => `line ${n} of the log`).join('\n'));
    expect(shown.split('\n').length).toBe(LINES);
    expect(isCut).toBe(true);
    expect(shown.endsWith('line 49999 of the log')).toBe(true);
    expect(lastLines('x'.repeat(1_000_000)).shown.length).toBeLessThan(3000);
    expect(lastLines('a\nb').isCut).toBe(false);
  });

  it("opens only files below the server's root that are not hidden", () => {
    expect(below('/srv/lab/flights/out.ipynb', '/srv/lab')).toBe('flights/out.ipynb');
    expect(below('/srv/lab/flights/out.ipynb', '/srv/lab/')).toBe('flights/out.ipynb');
    expect(below('/srv/laboratory/out.ipynb', '/srv/lab')).toBe('');
    expect(below('/srv/lab/../etc/passwd', '/srv/lab')).toBe('');
    expect(below('/srv/lab/.nbmlops/runs/out.ipynb', '/srv/lab')).toBe('');
    expect(below('/srv/lab/.nbmlops/runs/out.ipynb', '/srv/lab', true)).toBe('.nbmlops/runs/out.ipynb');
    expect(below('', '/srv/lab')).toBe('');
  });
});

describe("a pipeline's page", () => {
  const nodes = [
    { name: 'extract', kind: 'notebook', target: 'extract.ipynb', does: 'extract.ipynb', needs: [], column: 0, row: 0 },
    { name: 'train', kind: 'notebook', target: 'train.ipynb', does: 'train', needs: ['extract'], column: 1, row: 0 },
    { name: 'agree', kind: 'approval', target: 'Shall it?', does: 'ask', needs: ['train'], column: 2, row: 0 }
  ];
  const edges = [
    ['extract', 'train'],
    ['train', 'agree']
  ];
  const newest = job({
    job: 'bbbbbbbbbbbb',
    name: 'retrain',
    notebook: '',
    status: 'FAILED',
    steps: ['train', 'agree']
  });

  it('draws its steps with the state of each, and shows the one that is chosen by keyboard', async () => {
    const failed = step({ step: 'train[kind=bayes]', status: 'FAILED', message: 'no flights', run_id: 'd'.repeat(32) });
    const place = await stand({ show: { name: 'retrain', nodes, edges }, jobs: [newest, failed, schedule()] });
    render(<PipelinePage names={['retrain']} />, { wrapper: place.Around });
    const node = await screen.findByRole('button', { name: 'train, FAILED, after extract' });
    expect(screen.getByRole('button', { name: 'extract, unchanged' })).toBeTruthy();
    expect(screen.getByRole('button', { name: 'agree, not reached, after train' })).toBeTruthy();
    node.focus();
    await userEvent.setup().keyboard('{Enter}');
    expect(node.getAttribute('aria-pressed')).toBe('true');
    const chosen = screen.getByRole('region', { name: 'Step train' });
    expect(chosen.textContent).toContain('no flights');
    await userEvent.setup().click(within(chosen).getByRole('button', { name: 'Its run' }));
    expect(place.opened[0][0]).toEqual({ kind: 'run', names: ['d'.repeat(32)] });
  });

  it('offers to run, schedule, pause and resume it, and lists its runs', async () => {
    const place = await stand({ show: { name: 'retrain', nodes, edges }, jobs: [newest, schedule()] });
    render(<PipelinePage names={['retrain']} />, { wrapper: place.Around });
    const user = userEvent.setup();
    for (const words of ['Run …', 'Schedule …', 'Pause …', 'Resume …']) {
      await user.click(await screen.findByRole('button', { name: new RegExp(`^${words}`) }));
    }
    expect(place.proposed.map(each => each.slice(0, 2))).toEqual([
      ['run', { what: 'retrain', detach: true }],
      ['schedule', { target: 'retrain' }],
      ['pause', { target: 'retrain' }],
      ['resume', { job: newest.job, detach: true }]
    ]);
    await user.click(screen.getByRole('button', { name: 'bbbbbbbb' }));
    expect(place.opened[0][0]).toEqual({ kind: 'job', names: [newest.job] });
  });

  it('has an empty state, and one for a declaration that is wrong', async () => {
    const byHand = { name: 'retrain', steps: [], problem: 'Step train needs what is not there.', kind: 'pipeline' };
    const failure = { type: 'UsageError', message: 'Pipeline retrain is wrong.', hint: '', exit_code: 2 };
    const place = await stand({ show: new Refusal(failure, 400), jobs: [byHand] });
    render(<PipelinePage names={['retrain']} />, { wrapper: place.Around });
    expect((await screen.findByRole('alert')).textContent).toContain('Pipeline retrain is wrong.');
    expect(screen.getByText('It has not run yet.')).toBeTruthy();
    expect(screen.getByText('Step train needs what is not there.')).toBeTruthy();
  });

  it('shows hostile texts as text alone', async () => {
    const hostile = {
      name: HOSTILE,
      kind: HOSTILE,
      target: HOSTILE,
      does: HOSTILE,
      needs: [HOSTILE],
      column: 0,
      row: 0
    };
    const show = { name: HOSTILE, nodes: [hostile], edges: [] };
    const rows = [job({ name: HOSTILE, message: HOSTILE, status: HOSTILE }), schedule({ last: HOSTILE })];
    const place = await stand({ show, jobs: rows });
    const { container } = render(<PipelinePage names={[HOSTILE]} />, { wrapper: place.Around });
    await screen.findByRole('group', { name: /Steps of/ });
    nothingBut(container);
    expect(container.querySelectorAll('svg').length).toBe(1);
  });

  it('takes the foremost state of the instances of a step', () => {
    const two = [step({ step: 'train[a]' }), step({ step: 'train[b]', status: 'RUNNING' })];
    expect(stateOf('train', newest, two)).toBe('RUNNING');
    expect(stateOf('train', undefined, [])).toBe('');
  });
});

describe('a graph', () => {
  it('gives each step a place of its own, to the right of what it needs', () => {
    const columns = new Map(Array.from({ length: 40 }, (_, n) => [`step ${n}`, Math.floor(Math.log2(n + 1))]));
    const edges = Array.from({ length: 39 }, (_, n) => [`step ${n >> 1}`, `step ${n + 1}`] as const);
    const { spots, width, height } = laidOut(columns, [...edges, ['step 0', 'step 39'], ['gone', 'step 1']]);
    expect(new Set([...spots.values()].map(String)).size).toBe(spots.size);
    for (const [from, to] of edges) {
      expect(spots.get(from)![0]).toBeLessThan(spots.get(to)![0]);
    }
    expect(Math.max(...[...spots.values()].map(([x]) => x))).toBeLessThan(width);
    expect(Math.max(...[...spots.values()].map(([, y]) => y))).toBeLessThan(height);
  });

  it('leads a line that passes a column through a row of its own', () => {
    const columns = new Map([
      ['a', 0],
      ['b', 1],
      ['c', 2]
    ]);
    const { spots, lines } = laidOut(columns, [
      ['a', 'b'],
      ['b', 'c'],
      ['a', 'c']
    ]);
    expect(spots.size).toBe(4);
    expect(lines.length).toBe(5);
  });

  it('may have no steps', () => {
    expect(laidOut(new Map(), []).lines).toEqual([]);
  });
});
