/** The section of deployments and an endpoint's page, in each of their states. */

import { act, cleanup, fireEvent, render, screen, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import * as React from 'react';
import { afterEach, describe, expect, it, vi } from 'vitest';

import { Arguments, Refusal } from '../src/client';
import { adviceOn, isRollingOut, rolloutOf, wayBack, wayOn } from '../src/components/endpoint';
import { pairOf, weightsOf } from '../src/components/traffic';
import { curl, EndpointPage, movesOf } from '../src/pages/endpoint';
import { errors, EVERY_MS, isAtRest, kept, latencies, MOST_SAMPLES, rates, Sample, sampled } from '../src/samples';
import { EVENT } from '../src/tokens';
import { Endpoint, HistoryEntry, Progress, Share } from '../src/types';
import { DeploymentsView, withAlias, worstFirst } from '../src/views/deployments';
import { PROJECT, Stand, stand } from './doubles';

const HOSTILE = `<img src=x onerror=alert(1)><svg onload=alert(2)> javascript:alert(3) \u202egnp.exe`;

afterEach(() => {
  vi.useRealTimers();
  cleanup();
});

function share(version: string, role: string, weight: number, more: Partial<Share> = {}): Share {
  const counts = { n_requests: 100, n_errors: 0, latency_p99_ms: 4.2, shift: null };
  return { model: 'delays', version, role, weight, form: 'compiled', ...counts, ...more };
}

function endpoint(more: Partial<Endpoint> = {}): Endpoint {
  return {
    name: 'delays',
    url: 'http://127.0.0.1:5001',
    model: 'delays',
    version: '2',
    status: 'answers',
    traffic: [share('2', 'champion', 100)],
    follows: 'delays@champion',
    rollout: '',
    progress: null,
    since: '2013-06-30T12:00:00Z',
    pids: [],
    trouble: '',
    refused: {},
    ...more
  };
}

const PROGRESS: Progress = {
  state: 'running',
  challenger: 'delays/3',
  champion: 'delays/2',
  strategy: 'canary',
  steps: [10, 50, 100],
  step: 0,
  weight: 10,
  bake_s: 300,
  step_began_at: '2013-06-30T12:00:00Z',
  slo: 'err<1%',
  promote: false,
  reason: ''
};
const CANARY = endpoint({
  progress: PROGRESS,
  traffic: [share('2', 'champion', 90), share('3', 'challenger', 10, { n_errors: 7 })],
  rollout: 'delays/3 running'
});

async function shown(answers: object): Promise<Stand> {
  const place = await stand(answers as never);
  render(<DeploymentsView />, { wrapper: place.Around });
  return place;
}

describe('deployments', () => {
  it('tell how each endpoint and its versions do', async () => {
    await shown({ endpoints: [CANARY] });
    expect(await screen.findByText('answers')).toBeTruthy();
    expect(screen.getByText(/Rollout \(canary\) of delays\/3: step 1 of 3, with 10 % of the requests/)).toBeTruthy();
    const row = screen.getByRole('row', { name: /errors/ });
    expect(
      within(row)
        .getAllByRole('cell')
        .map(cell => cell.textContent)
    ).toEqual(['0', '7']);
  });

  it('are read while they load', async () => {
    await shown({ endpoints: new Promise(() => undefined) });
    expect(screen.getByRole('status', { name: 'Loading' })).toBeTruthy();
  });

  it('say what went wrong and what to do', async () => {
    const failure = { type: 'StoreError', message: 'The ledger is out of reach.', hint: 'Start it.', exit_code: 10 };
    await shown({ endpoints: new Refusal(failure, 503) });
    expect((await screen.findByRole('alert')).textContent).toContain('Start it.');
  });

  it('lead to the champion when nothing is deployed', async () => {
    const models = [
      { name: 'delays', version: '2', aliases: { champion: '2' }, gate: '', judged: '', updated_at: null }
    ];
    const place = await shown({ endpoints: [], models });
    await userEvent.setup().click(await screen.findByRole('button', { name: 'Deploy it …' }));
    expect(place.proposed[0].slice(0, 2)).toEqual(['deploy', { model: 'delays' }]);
  });

  it('lead to the models when there is no champion either', async () => {
    await shown({ endpoints: [], models: [] });
    expect(await screen.findByRole('button', { name: 'Show the models' })).toBeTruthy();
    expect(screen.getAllByRole('button')).toHaveLength(1);
  });

  it('do not say that there is no champion when the models are out of reach', async () => {
    const failure = { type: 'StoreError', message: 'MLflow is out of reach.', hint: 'Start it.', exit_code: 10 };
    await shown({ endpoints: [], models: new Refusal(failure, 503) });
    expect((await screen.findByRole('alert')).textContent).toContain('MLflow is out of reach.');
    expect(screen.queryByRole('button')).toBeNull();
  });

  it('propose weights that add up to 100 when the slider is moved, and nothing before', async () => {
    const place = await shown({ endpoints: [CANARY] });
    const slider = await screen.findByRole('slider', { name: 'Share of version 3' });
    expect(screen.getByRole('button', { name: 'Set traffic …' }).hasAttribute('disabled')).toBe(true);
    fireEvent.change(slider, { target: { value: '35' } });
    expect(slider.getAttribute('aria-valuetext')).toBe('2: 65\u00a0%, 3: 35\u00a0%');
    expect(place.proposed).toEqual([]);
    await userEvent.setup().click(screen.getByRole('button', { name: 'Set traffic …' }));
    expect(place.proposed[0].slice(0, 2)).toEqual(['traffic', { endpoint: 'delays', weights: { 2: 65, 3: 35 } }]);
  });

  it('have the slider follow what a rollout sets', async () => {
    const place = await shown({ endpoints: [CANARY] });
    await screen.findByRole('slider');
    place.server.answers = {
      endpoints: [{ ...CANARY, traffic: [share('2', 'champion', 50), share('3', 'challenger', 50)] }]
    };
    act(() => place.told.emit(changed('endpoints')));
    await screen.findByText('2: 50 %, 3: 50 %');
    expect((screen.getByRole('slider') as HTMLInputElement).value).toBe('50');
  });

  it('propose the way on, the way back and the end', async () => {
    const place = await shown({ endpoints: [CANARY] });
    const user = userEvent.setup();
    for (const name of ['Promote 3 …', 'Roll back …', 'Undeploy …']) {
      await user.click(await screen.findByRole('button', { name }));
    }
    expect(place.proposed.map(words => words.slice(0, 2))).toEqual([
      ['promote', { model: 'delays/3' }],
      ['rollback', { model: 'delays' }],
      ['undeploy', { endpoint: 'delays' }]
    ]);
    for (const [, args, evidence] of place.proposed as [string, Arguments, (args: Arguments) => React.ReactNode][]) {
      cleanup();
      render(<>{evidence(args)}</>, { wrapper: place.Around });
      expect(screen.getByRole('table', { name: 'Versions' })).toBeTruthy();
    }
  });

  it('open an endpoint’s page', async () => {
    const place = await shown({ endpoints: [CANARY] });
    await userEvent.setup().click(await screen.findByRole('button', { name: 'delays' }));
    expect(place.opened).toEqual([[{ kind: 'endpoint', names: ['delays'] }, '']]);
  });

  it('have no slider for a shadow, nor for one version', async () => {
    await shown({ endpoints: [endpoint({ traffic: [share('2', 'champion', 100), share('3', 'shadow', 0)] })] });
    await screen.findByText('delays');
    expect(screen.queryByRole('slider')).toBeNull();
    expect(screen.getByRole('button', { name: 'Promote 3 …' })).toBeTruthy();
  });

  it('say what to do about one that is dead', async () => {
    const place = await shown({ endpoints: [endpoint({ status: 'dead', trouble: 'The port is taken.' })] });
    expect(await screen.findByText('The port is taken.')).toBeTruthy();
    await userEvent.setup().click(screen.getByRole('button', { name: 'Deploy it again …' }));
    expect(place.proposed[0].slice(0, 2)).toEqual(['deploy', { model: 'delays@champion' }]);
  });

  it('show hostile words as text alone', async () => {
    const hostile = share(HOSTILE, HOSTILE, 10, { form: HOSTILE, model: HOSTILE });
    const words = { name: HOSTILE, url: HOSTILE, model: HOSTILE, status: HOSTILE, follows: HOSTILE };
    const progress = { ...PROGRESS, challenger: HOSTILE, strategy: HOSTILE, slo: HOSTILE, step_began_at: HOSTILE };
    const all = { ...words, progress, rollout: HOSTILE, trouble: HOSTILE, refused: { [HOSTILE]: 1 } };
    const answers = {
      endpoints: [endpoint({ ...all, traffic: [{ ...hostile, role: 'champion' }, hostile] })],
      history: []
    };
    const place = await shown(answers);
    render(<EndpointPage names={[HOSTILE]} />, { wrapper: place.Around });
    await screen.findByText(/^curl /);
    expect(document.querySelector('img, script, [onerror], [onload], a[href]')).toBeNull();
    expect(document.body.textContent).toContain('<img src=x onerror=alert(1)>');
    expect(document.body.textContent).not.toContain('\u202e');
  });
});

describe('an endpoint’s page', () => {
  async function page(answers: object): Promise<Stand> {
    const place = await stand({ history: [], ...answers } as never);
    render(<EndpointPage names={['delays']} />, { wrapper: place.Around });
    return place;
  }

  it('tells figures, refusals, and how it is called', async () => {
    await page({ endpoints: [{ ...CANARY, refused: { 400: 12 } }] });
    expect(await screen.findByRole('heading', { name: /delays/, level: 1 })).toBeTruthy();
    expect(screen.getByRole('row', { name: /400 12 not a request that it understands/ })).toBeTruthy();
    expect(screen.getByText(/^curl http:\/\/127.0.0.1:5001\/invocations -H/)).toBeTruthy();
  });

  it('draws what came since it was opened', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const place = await page({ endpoints: [CANARY] });
    expect(await screen.findByText(/No request has come since/)).toBeTruthy();
    for (const n of [200, 300]) {
      const traffic = CANARY.traffic.map(each => ({ ...each, n_requests: n }));
      place.server.answers = { ...place.server.answers, endpoints: [{ ...CANARY, traffic }] };
      vi.setSystemTime(Date.now() + 2 * EVERY_MS);
      act(() => place.told.emit(changed('endpoints', String(n))));
      await screen.findAllByText(String(n));
    }
    expect(await screen.findByText(/cannot draw .*Requests per second/)).toBeTruthy();
  });

  it('says so when the endpoint is no more, with the way to the others', async () => {
    await page({ endpoints: [] });
    expect(await screen.findByRole('button', { name: 'Show what is deployed' })).toBeTruthy();
  });

  it('shows the history of the alias alone', () => {
    const entry = (what: string, more: object = {}): HistoryEntry =>
      ({
        event: 1,
        at: '',
        actor: 'ada',
        surface: 'cli',
        verb: 'promote',
        version: '',
        outcome: 'ok',
        what,
        reason: '',
        ...more
      }) as never;
    const all = [entry('champion: 1 → 2'), entry('challenger: 1 → 2'), entry('no gate', { outcome: 'failed' })];
    expect(movesOf(all, 'champion').map(({ what }) => what)).toEqual(['champion: 1 → 2', 'no gate']);
    expect(movesOf(all, '')).toHaveLength(3);
  });

  it('quotes an address for a shell', () => {
    expect(curl(`http://x/'; rm -rf ~`)).toContain(`'http://x/'"'"'; rm -rf ~/invocations'`);
  });
});

describe('what is said of an endpoint', () => {
  it('puts trouble first', () => {
    const all = [endpoint({ name: 'b' }), endpoint({ name: 'c', status: 'dead' }), endpoint({ name: 'a' })];
    expect(worstFirst(all).map(({ name }) => name)).toEqual(['c', 'a', 'b']);
  });

  it('is nothing when it answers, and what mends it otherwise', () => {
    expect(adviceOn(endpoint())).toBeUndefined();
    const steps = ['dead', 'silent', 'partly', 'behind', 'elsewhere'].map(
      status => adviceOn(endpoint({ status }))?.step?.verb
    );
    expect(steps).toEqual(['deploy', 'deploy', 'agent', 'agent', undefined]);
  });

  it('names endpoint and alias where they are not the usual ones', () => {
    const other = endpoint({ name: 'eu', status: 'dead', follows: 'delays@eu', traffic: CANARY.traffic });
    expect(adviceOn(other)?.step?.args).toEqual({ model: 'delays@eu', as_: 'eu' });
    expect(wayBack(other)?.args).toEqual({ model: 'delays@eu' });
    expect(wayOn(other)?.args).toEqual({ model: 'delays/3', to: 'eu' });
  });

  it('leads back by the weights where no alias is followed', () => {
    expect(wayBack({ ...CANARY, follows: '' })?.args).toEqual({ endpoint: 'delays', weights: { 2: 100, 3: 0 } });
    expect(wayBack(endpoint({ follows: '' }))).toBeUndefined();
    expect(wayOn(endpoint())).toBeUndefined();
  });

  it('tells how far a rollout is, and how one ended', () => {
    const [began, late] = ['2013-06-30T12:02:00Z', '2013-06-30T13:00:00Z'].map(Date.parse);
    const begun = 'Rollout (canary) of delays/3: step 1 of 3, with 10\u00a0% of the requests.';
    expect(rolloutOf(CANARY, began)).toBe(`${begun} On to 50\u00a0% in 3 min at the earliest, if err<1% holds.`);
    expect(rolloutOf(CANARY, late)).toBe(`${begun} On to 50\u00a0% once enough requests came, if err<1% holds.`);
    const last = { ...CANARY, progress: { ...PROGRESS, strategy: 'shadow', steps: [0], slo: '' } };
    expect(rolloutOf(last, late)).toContain('step 1 of 1, answering nobody. It is done once enough requests came.');
    const ended = endpoint({
      progress: { ...PROGRESS, state: 'rolled_back' },
      rollout: 'delays/3 rolled back: err 9%'
    });
    expect([isRollingOut(CANARY), isRollingOut(ended)]).toEqual([true, false]);
    expect(rolloutOf(ended)).toBe('Rollout: delays/3 rolled back: err 9%');
    expect(rolloutOf(endpoint())).toBe('');
  });

  it('finds a model by its alias', () => {
    const models = [{ aliases: {} }, { name: 'b', aliases: { champion: '1' } }] as never;
    expect(withAlias(models, 'champion')).toBe('b');
    expect(withAlias(models, 'eu')).toBeUndefined();
  });
});

describe('weights', () => {
  it('add up to 100 for every place of the slider', () => {
    const pair = pairOf(CANARY);
    for (let percent = -5; pair && percent <= 105; percent += 0.5) {
      const weights = Object.values(weightsOf(pair, percent));
      expect(weights.reduce((sum, each) => sum + each, 0)).toBe(100);
      expect(Math.min(...weights)).toBeGreaterThanOrEqual(0);
    }
  });
});

describe('samples', () => {
  const at = (ms: number, n_requests: number): Sample => sampled([share('2', 'champion', 100, { n_requests })], ms);

  it('are at least two seconds apart but for the newest', () => {
    const ms = Array.from({ length: 50 }, (_, n) => n * 300);
    const all = ms.reduce((samples, each) => kept(samples, at(each, each)), [] as readonly Sample[]);
    const gaps = all.slice(1, -1).map((sample, n) => sample.at - all[n].at);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(EVERY_MS);
    expect(all[all.length - 1].at).toBe(ms[ms.length - 1]);
  });

  it('stay few, and reach from the first to the newest', () => {
    let all: readonly Sample[] = [];
    for (let n = 0; n < 5000; n += 1) {
      all = kept(all, at(n * EVERY_MS, n));
      expect(all.length).toBeLessThanOrEqual(MOST_SAMPLES);
    }
    expect([all[0].at, all[all.length - 1].at]).toEqual([0, 4999 * EVERY_MS]);
  });

  it('give rates, with a gap where counting began anew', () => {
    const all = [at(0, 10), at(2000, 30), at(4000, 30), at(6000, 5)];
    expect(rates(all).map(({ value }) => value)).toEqual([null, 10, 0, null]);
    expect(errors(all).map(({ value }) => value)).toEqual([0, 0, 0, 0]);
    expect(latencies(all)[0]).toEqual({ at: 0, version: '2 champion', value: 4.2 });
  });

  it('are at rest when nothing was counted lately', () => {
    expect([isAtRest([]), isAtRest([at(0, 1)])]).toEqual([true, true]);
    expect([isAtRest([at(0, 1), at(1, 2)]), isAtRest([at(0, 2), at(1, 2)])]).toEqual([false, true]);
  });
});

function changed(topic: string, to = '2'): never {
  return { schema_id: EVENT, root: PROJECT.root, stamps: { ...PROJECT.stamps, [topic]: to } } as never;
}
