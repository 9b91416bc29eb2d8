/** Models in the sidebar and on their page, the evidence for moving an alias, and what of them is pure. */

import { act, cleanup, render, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import * as React from 'react';
import { afterEach, describe, expect, it, vi } from 'vitest';

import { Arguments, Refusal } from '../src/client';
import { moved, pointing, promotionEvidence, rollbackEvidence, deploymentEvidence } from '../src/components/evidence';
import { improvement, limit, worstFirst } from '../src/components/gate';
import { foremost, lastMove, meant, measured, upToDate } from '../src/components/versions';
import { described, ModelPage, newestJudged, plot } from '../src/pages/model';
import { EVENT } from '../src/tokens';
import { GateReport, HistoryEntry, ListedVersion, RegisteredModel, ValidationCheck, VersionCard } from '../src/types';
import { ModelsView, pointed } from '../src/views/models';
import { Answers, PROJECT, stand, Stand } from './doubles';

const HOSTILE = `<img src=x onerror=alert(1)><svg onload=alert(2)> javascript:alert(3) \u202egnp.exe`;
const HUGE = 'A'.repeat(1_000_000);
const DAY = '2013-06-30T12:00:00Z';

afterEach(cleanup);

// ------------------------------------------------------------------- what a server would answer
function model(more: Partial<RegisteredModel> = {}): RegisteredModel {
  const aliases = { champion: '2', challenger: '3' };
  return { name: 'delays', version: '3', aliases, gate: 'failed', judged: '3', updated_at: DAY, ...more };
}

function version(n: number, more: Partial<ListedVersion> = {}): ListedVersion {
  const judged = { gate: 'passed', judged_by: 'default', judged_at: `2013-06-${10 + n}T12:00:00Z`, n_failed: 0 };
  const ids = { name: 'delays', version: `${n}`, aliases: [], run_id: `${n}`.padStart(32, '0') };
  return { ...ids, registered_at: DAY, ...judged, ...more };
}

function check(more: Partial<ValidationCheck> = {}): ValidationCheck {
  const bounds = { champion: null, lower: null, upper: null };
  const judged = { value: 0.7206, limit: 0.65, n: 13476, status: 'pass', note: '' } as const;
  return { name: 'roc_auc', condition: 'min', ...bounds, ...judged, ...more };
}

function report(more: Partial<GateReport> = {}): GateReport {
  const of = { model: 'delays', version: '2', digest: 'ea3f', gate: 'default', data: 'data/holdout.parquet' };
  return { passed: true, ...of, champion: '1', n: 13476, checks: [check()], dry_run: false, ...more };
}

function card(more: Partial<VersionCard> = {}): VersionCard {
  const of = { model: 'delays', version: '2', aliases: [], digest: 'ea3f', run_id: '', registered_at: DAY };
  return { ...of, history: [], reports: [report()], ...more };
}

function entry(more: Partial<HistoryEntry> = {}): HistoryEntry {
  const who = { event: 18, at: DAY, actor: 'ann', surface: 'cli', verb: 'promote', version: '2', outcome: 'ok' };
  return { ...who, what: 'champion: 1 → 2', reason: 'better in June', ...more };
}

const VERSIONS = [
  version(3, { gate: 'failed', n_failed: 2 }),
  version(2),
  version(1, { gate: '', judged_by: '', judged_at: null })
];

function answers(more: Answers = {}): Answers {
  const models = (args: Arguments): unknown => ('name' in args ? VERSIONS : [model()]);
  return { models, show: card(), history: [entry()], ...more };
}

function refusal(type: string, message: string, hint = ''): Refusal {
  return new Refusal({ type, message, hint, exit_code: 4 }, 422);
}

async function shown(
  view: React.ReactElement,
  given: Answers = answers()
): Promise<Stand & { container: HTMLElement }> {
  const place = await stand(given);
  return { ...place, container: render(view, { wrapper: place.Around }).container };
}

function expectTextAlone(container: HTMLElement): void {
  expect(container.querySelector('img, script, iframe, [onerror], [onload], [href], [src]')).toBeNull();
  expect(container.textContent).toContain('<img src=x onerror=alert(1)>');
  expect(container.innerHTML).not.toContain('\u202e');
}

// -------------------------------------------------------------------------------- the section
describe('the section of models', () => {
  it('shows versions with their aliases and how their gates stand', async () => {
    await shown(<ModelsView />);
    const list = await screen.findByRole('list', { name: 'Versions of delays, the newest first' });
    const texts = within(list)
      .getAllByRole('listitem')
      .map(each => each.textContent);
    expect(texts[0]).toMatch(/^Version 3challengergate failed\d+ days ago/);
    expect(texts[1]).toMatch(/^Version 2championgate passed/);
    expect(texts[2]).toMatch(/^Version 1not judged/);
  });

  it('proposes what is done with a version, each with its evidence', async () => {
    const { proposed } = await shown(<ModelsView />);
    const user = userEvent.setup();
    await user.click(await screen.findByRole('button', { name: 'Promote … (delays/1 to champion)' }));
    await user.click(screen.getByRole('button', { name: 'Roll back … (champion of delays)' }));
    await user.click(screen.getByRole('button', { name: 'Validate … (delays/3)' }));
    await user.click(screen.getByRole('button', { name: 'Deploy … (delays/2)' }));
    expect(proposed).toEqual([
      ['promote', { model: 'delays/1', to: 'champion', reason: '' }, promotionEvidence, ''],
      ['rollback', { model: 'delays@champion', reason: '' }, rollbackEvidence, ''],
      ['validate', { model: 'delays/3' }, undefined, ''],
      ['deploy', { model: 'delays/2' }, deploymentEvidence, '']
    ]);
  });

  it('does nothing by itself but ask', async () => {
    const { server } = await shown(<ModelsView />);
    await screen.findByText('Version 3');
    expect(new Set(server.asked.map(([verb]) => verb))).toEqual(new Set(['models']));
  });

  it('shows an alias that was moved elsewhere', async () => {
    const { server, told } = await shown(<ModelsView />);
    await screen.findByRole('button', { name: 'Promote … (delays/3 to champion)' });
    const models = (args: Arguments): unknown => ('name' in args ? VERSIONS : [model({ aliases: { champion: '3' } })]);
    server.answers = answers({ models });
    act(() => told.emit({ schema_id: EVENT, root: PROJECT.root, stamps: { ...PROJECT.stamps, runs: '2' } } as never));
    expect(await screen.findByRole('button', { name: 'Promote … (delays/2 to champion)' })).toBeTruthy();
    expect(within(screen.getByText('Version 3').parentElement as HTMLElement).getByText('champion')).toBeTruthy();
  });

  it('leads to all versions of a model', async () => {
    const many = [...Array(9).keys()].map(n => version(9 - n));
    const models = (args: Arguments): unknown => ('name' in args ? many : [model({ version: '9', aliases: {} })]);
    const { opened } = await shown(<ModelsView />, answers({ models }));
    await userEvent.setup().click(await screen.findByRole('button', { name: 'All 9 versions' }));
    expect(opened).toEqual([[{ kind: 'model', names: ['delays'] }, '']]);
    expect(screen.getAllByText(/^Version /)).toHaveLength(3);
  });

  it('asks for the versions of a model when it is unfolded, and finds models by name', async () => {
    const models = (args: Arguments): unknown =>
      'name' in args ? [] : [...Array(20).keys()].map(n => model({ name: `model ${n}` }));
    const { server } = await shown(<ModelsView />, answers({ models }));
    const user = userEvent.setup();
    await user.type(await screen.findByRole('searchbox', { name: 'Find a model' }), 'model 19');
    const unfold = screen.getByRole('button', { name: 'Versions of model 19' });
    expect(unfold.getAttribute('aria-expanded')).toBe('false');
    expect(screen.getByText('champion 2')).toBeTruthy();
    await user.click(unfold);
    await waitFor(() => expect(server.asked).toContainEqual(['models', { name: 'model 19' }]));
    expect(server.asked.filter(([, args]) => 'name' in args)).toHaveLength(4); // three are open at first
  });

  it('has one next step when there are no models', async () => {
    const { proposed } = await shown(<ModelsView />, { models: [] });
    await userEvent.setup().click(await screen.findByRole('button', { name: 'Register a model …' }));
    expect(proposed[0].slice(0, 2)).toEqual(['register', {}]);
  });

  it('says that it loads, and what went wrong', async () => {
    await shown(<ModelsView />, { models: () => new Promise(() => undefined) });
    expect(screen.getByRole('status', { name: 'Loading' })).toBeTruthy();
    cleanup();
    await shown(<ModelsView />, { models: refusal('StoreError', 'MLflow is out of reach.', 'Start it.') });
    expect((await screen.findByRole('alert')).textContent).toContain('MLflow is out of reach.Start it.');
  });
});

// ----------------------------------------------------------------------------------- the page
describe('the page of a model', () => {
  it('lists versions, measures, the newest report and the history', async () => {
    const failed = report({ version: '3', passed: false, checks: [check({ status: 'fail', note: 'below' }), check()] });
    const show = ({ what }: Arguments): unknown => card({ reports: what === 'delays/3' ? [failed] : [report()] });
    await shown(<ModelPage names={['delays']} />, answers({ show }));
    const rows = within(await screen.findByRole('table', { name: 'Versions, the newest first' })).getAllByRole('row');
    expect(rows).toHaveLength(4);
    expect(rows[1].textContent).toMatch(/^3challengergate failed in default, .* 2 checks failed/);
    expect(await screen.findByText(/roc_auc of each version/)).toBeTruthy(); // no renderer here: the plot says what it is
    expect(screen.getByRole('region', { name: 'Report of gate default' }).textContent).toContain('Version 3 failed');
    const history = within(screen.getByRole('table', { name: 'History, the newest first' })).getAllByRole('row');
    expect(history[1].textContent).toMatch(/annclipromote2okchampion: 1 → 2better in June$/);
  });

  it('opens the run that made a version', async () => {
    const { opened } = await shown(<ModelPage names={['delays']} />);
    const table = await screen.findByRole('table', { name: 'Versions, the newest first' });
    await userEvent.setup().click(within(table).getAllByRole('button', { name: '00000000' })[0]);
    expect(opened).toEqual([[{ kind: 'run', names: [VERSIONS[0].run_id] }, '']]);
  });

  it('proposes what is done with the newest version and with the alias', async () => {
    const { proposed } = await shown(<ModelPage names={['delays']} />);
    const user = userEvent.setup();
    await user.click(await screen.findByRole('button', { name: 'Promote version 3 … (to champion)' }));
    await user.click(screen.getByRole('button', { name: 'Deploy champion … (delays)' }));
    expect(proposed.map(each => each[1])).toEqual([
      { model: 'delays/3', to: 'champion', reason: '' },
      { model: 'delays@champion' }
    ]);
  });

  it('shows more of many versions on request', async () => {
    const many = [...Array(120).keys()].map(n => version(120 - n, { gate: '' }));
    const models = (args: Arguments): unknown => ('name' in args ? many : [model({ version: '120' })]);
    await shown(<ModelPage names={['delays']} />, answers({ models }));
    const more = await screen.findByText('Show more: 20 are left');
    const rows = 'table[aria-label^="Versions"] tbody tr'; // roles take seconds
    expect(document.querySelectorAll(rows)).toHaveLength(100);
    await userEvent.setup().click(more);
    expect(document.querySelectorAll(rows)).toHaveLength(120);
  });

  it('asks for each report once, however often the versions change', async () => {
    const { server, told } = await shown(<ModelPage names={['delays']} />);
    await screen.findByRole('region', { name: 'Report of gate default' });
    const shows = (): number => server.asked.filter(([verb]) => verb === 'show').length;
    expect(shows()).toBe(2); // of three versions two were judged
    act(() => told.emit({ schema_id: EVENT, root: PROJECT.root, stamps: { ...PROJECT.stamps, ledger: '2' } } as never));
    await waitFor(() => expect(server.asked.filter(([verb]) => verb === 'history')).toHaveLength(2));
    expect(shows()).toBe(2);
  });

  it('says which report cannot be had, shows the others, and asks again', async () => {
    const of = (asked: Arguments): unknown =>
      asked.what === 'delays/3' ? refusal('StoreError', 'Of another form.') : card();
    const place = await shown(<ModelPage names={['delays']} />, answers({ show: of }));
    await screen.findByText('Of another form.');
    await screen.findByText('What gates measured');
    place.server.answers = answers();
    act(() =>
      place.told.emit({ schema_id: EVENT, root: PROJECT.root, stamps: { ...PROJECT.stamps, ledger: '2' } } as never)
    );
    await screen.findByRole('region', { name: 'Report of gate default' });
    expect(screen.queryByText('Of another form.')).toBeNull();
  });

  it('has one next step when there is no such model', async () => {
    const { proposed } = await shown(<ModelPage names={['churn']} />);
    await userEvent.setup().click(await screen.findByRole('button', { name: 'Register a model …' }));
    expect(proposed[0].slice(0, 2)).toEqual(['register', { name: 'churn' }]);
  });
});

// ------------------------------------------------------------------------------- the evidence
describe('the evidence for a promotion', () => {
  const args = { model: 'delays/3', to: 'champion' };
  const promotion = { name: 'delays', version: '3', alias: 'champion', previous: '2', moved: true, switched: [] };
  const evidence = { event: 17, gate: 'default', digest: 'ea3f' };

  it('says where the alias is, what would be done, and what the gate found', async () => {
    const bounds = { champion: 0.6691, lower: 0.04454, upper: 0.05864, condition: 'max_regression', limit: 0.01 };
    const found = report({ checks: [check(), check(bounds), check({ name: 'f1', status: 'fail' })] });
    const given = answers({ promote: { ...promotion, evidence }, show: card({ reports: [found] }) });
    const { server } = await shown(<>{promotionEvidence(args, () => undefined)}</>, given);
    const section = screen.getByRole('region', { name: 'Evidence' });
    await within(section).findByText('The alias champion points at version 2.');
    const told =
      'It would go from version 2 to 3, for gate default passed (event 17), and endpoints that follow champion';
    await within(section).findByText(`${told} with it.`);
    const rows = within(await within(section).findByRole('table')).getAllByRole('row');
    expect(rows[1].textContent).toMatch(/^failedf1/);
    expect(rows[3].textContent).toMatch(/^passedroc_auc0.7206at most 0.01 worse0.6691\+0.04454 to \+0.0586413,476/);
    expect(server.asked.find(([verb]) => verb === 'promote')?.[1]).toEqual({ ...args, dry_run: true });
  });

  it('offers to validate a version that no gate has passed', async () => {
    const none = 'No passed report is about the bytes of delays/3, so no alias moves to it.';
    const given = answers({ promote: refusal('GateError', none), show: card({ reports: [] }) });
    const close = vi.fn();
    const { proposed } = await shown(<>{promotionEvidence(args, close)}</>, given);
    await screen.findByText(none);
    await userEvent.setup().click(screen.getByRole('button', { name: 'Validate …' }));
    expect(close).toHaveBeenCalledOnce();
    expect(proposed).toEqual([['validate', { model: 'delays/3' }, undefined, '']]);
  });

  it('says any other refusal as it is', async () => {
    const given = answers({ promote: refusal('ConflictError', 'Bytes were changed.', 'Register anew.') });
    await shown(<>{promotionEvidence(args, () => undefined)}</>, given);
    expect((await screen.findByRole('alert')).textContent).toContain('Bytes were changed.Register anew.');
  });

  it('follows what is typed', async () => {
    const given = answers({
      promote: (asked: Arguments) => ({ ...promotion, version: String(asked.model).slice(-1) })
    });
    const place = await stand(given);
    const at = (typed: Arguments): React.ReactElement => (
      <place.Around>{promotionEvidence(typed, () => undefined)}</place.Around>
    );
    const { rerender } = render(at(args));
    await screen.findByText(/from version 2 to 3/);
    rerender(at({ ...args, model: 'delays/1' }));
    await screen.findByText(/from version 2 to 1/);
  });

  it('is none about another version than the one that is typed', async () => {
    const of = (asked: Arguments): unknown =>
      asked.model === 'delays/3' ? promotion : refusal('NotFoundError', 'There is no version 99.');
    const place = await stand(answers({ promote: of }));
    const at = (typed: Arguments): React.ReactElement => (
      <place.Around>{promotionEvidence(typed, () => undefined)}</place.Around>
    );
    const { rerender } = render(at(args));
    await screen.findByText(/from version 2 to 3/);
    rerender(at({ ...args, model: 'delays/99' }));
    await screen.findByText('There is no version 99.');
    expect(screen.queryByText(/from version 2 to 3/)).toBeNull();
  });

  it('is text alone, also where a store holds markup or a megabyte', async () => {
    const hostile = check({ name: HOSTILE, note: HUGE, condition: HOSTILE, status: HOSTILE as never });
    const reports = [
      report({ gate: HOSTILE, data: HUGE, champion: HUGE, version: HOSTILE, digest: HOSTILE, checks: [hostile] })
    ];
    const given = answers({
      models: [model({ name: HOSTILE, aliases: { [HOSTILE]: HUGE } })],
      promote: refusal('GateError', HOSTILE + HUGE),
      show: card({ model: HOSTILE, version: HUGE, reports })
    });
    const { container } = await shown(
      <>{promotionEvidence({ model: HOSTILE, to: HOSTILE }, () => undefined)}</>,
      given
    );
    await screen.findByRole('table');
    expectTextAlone(container);
    expect(container.innerHTML.length).toBeLessThan(20_000);
  });
});

describe('the evidence for a rollback', () => {
  const rollback = { name: 'delays', version: '1', alias: 'champion', previous: '2', switched: [], ended: [] };

  it('says where it leads, who moved the alias last and why', async () => {
    const earlier = entry({ event: 19, outcome: 'GateError', actor: 'bob' });
    const given = answers({ rollback, history: [earlier, entry()] });
    const { server } = await shown(<>{rollbackEvidence({ model: 'delays@champion' })}</>, given);
    await screen.findByText(/moved there by ann, .* by promote from cli \(champion: 1 → 2\)\. Why: better in June/);
    await screen.findByText(/go from version 2 back to version 1/);
    await waitFor(() => expect(server.asked).toContainEqual(['show', { what: 'delays/1' }]));
    expect(server.asked).toContainEqual(['rollback', { model: 'delays@champion', dry_run: true }]);
  });

  it('says where a rollout ends instead', async () => {
    await shown(<>{rollbackEvidence({ model: 'delays' })}</>, answers({ rollback: { ...rollback, ended: ['live'] } }));
    await screen.findByText('The rollout at live would end, and champion stays at version 1.');
  });

  it('says that there is no version before', async () => {
    const given = answers({ rollback: refusal('ConflictError', 'There is none before it.') });
    await shown(<>{rollbackEvidence({ model: 'delays@champion' })}</>, given);
    expect((await screen.findByRole('alert')).textContent).toContain('There is none before it.');
  });
});

describe('the evidence for a deployment', () => {
  it('warns where no gate has judged the version', async () => {
    await shown(
      <>{deploymentEvidence({ model: 'delays' }, () => undefined)}</>,
      answers({ show: card({ reports: [] }) })
    );
    expect(await screen.findByText('No gate has judged version 2 of delays.')).toBeTruthy();
  });
});

// ---------------------------------------------------------------------------- hostile strings
describe('hostile strings', () => {
  const aliases = { [HOSTILE]: '1', [HUGE]: '1', champion: HUGE };
  const bad = version(1, { version: '1', aliases: [HOSTILE], gate: HOSTILE, judged_by: HOSTILE, run_id: HOSTILE });
  const all = (n: string): Answers => ({
    models: (args: Arguments): unknown =>
      'name' in args
        ? [bad, version(2, { version: HUGE, judged_by: HUGE })]
        : [model({ name: n, version: '1', aliases })],
    show: card({ reports: [report({ gate: HOSTILE, data: HOSTILE, checks: [check({ name: HOSTILE, note: HUGE })] })] }),
    history: [entry({ actor: HOSTILE, surface: HUGE, verb: HOSTILE, outcome: HUGE, what: HOSTILE, reason: HUGE })]
  });

  for (const [called, name] of Object.entries({ markup: HOSTILE, 'a megabyte': HOSTILE + HUGE })) {
    it(`are text alone in the section: ${called}`, async () => {
      const { container } = await shown(<ModelsView />, all(name));
      await screen.findByText('Version 1');
      expectTextAlone(container);
      expect(container.innerHTML.length).toBeLessThan(20_000);
    });

    it(`are text alone on the page: ${called}`, async () => {
      const { container } = await shown(<ModelPage names={[name]} />, all(name));
      await screen.findByRole('table', { name: 'History, the newest first' });
      expectTextAlone(container);
      expect(container.innerHTML.length).toBeLessThan(40_000);
    });
  }

  it('are values in a plot, of bounded length, and never anything else', () => {
    const points = [{ metric: HOSTILE, version: HUGE, value: 'NaN' as const, aliases: [HOSTILE, HUGE] }];
    const drawn = JSON.stringify(plot(HOSTILE, points, 'champion'));
    expect(drawn.length).toBeLessThan(2_000);
    expect(drawn).not.toMatch(/"(href|url|expr|signal)"/);
  });
});

// --------------------------------------------------------------------------------------- pure
describe('what is pure', () => {
  it('sorts checks by how bad they are, and says what they ask', () => {
    const statuses = worstFirst(['pass', 'skip', 'fail', 'warn'].map(status => check({ status } as never)));
    expect(statuses.map(each => each.status)).toEqual(['fail', 'warn', 'skip', 'pass']);
    expect(limit(check())).toBe('at least 0.65');
    expect(limit(check({ condition: 'max_regression', limit: 0.01 }))).toBe('at most 0.01 worse');
    expect(limit(check({ condition: 'max_gap', limit: 0.1 }))).toBe('max gap 0.1');
    expect(improvement(check({ champion: 0.7, lower: 'NaN', upper: 0.02 }))).toBe('NaN to +0.02');
    expect(improvement(check())).toBe('');
  });

  it('keeps versions that an alias points at among the foremost', () => {
    const versions = [5, 4, 3, 2, 1].map(n => version(n, { aliases: n === 2 ? ['champion'] : [] }));
    expect(foremost(versions, 3).map(each => each.version)).toEqual(['5', '4', '3', '2']);
  });

  it('knows of a version that another tool has registered, and of its aliases', () => {
    const known = upToDate(
      [version(1, { aliases: ['champion'] })],
      model({ version: '2', aliases: { champion: '2' } })
    );
    expect(known.map(each => [each.version, each.gate, each.aliases])).toEqual([
      ['2', '', ['champion']],
      ['1', 'passed', []]
    ]);
    expect(upToDate([], model({ version: '', aliases: {} }))).toEqual([]);
  });

  it('reads references as promote does', () => {
    expect(['delays', 'delays/3', 'delays@champion'].map(meant)).toEqual([
      'delays@challenger',
      'delays/3',
      'delays@champion'
    ]);
  });

  it('finds who moved an alias last', () => {
    const refused = entry({ event: 9, outcome: 'GateError' });
    const other = entry({ event: 8, what: 'challenger: 2 → 3', verb: 'register' });
    const rolled = entry({ event: 7, verb: 'rollback', what: 'champion: 2 → 1' });
    expect(lastMove([refused, other, rolled, entry()], 'champion')).toBe(rolled);
    expect(lastMove([other], 'champion')).toBeUndefined();
    const unknown = 'It was moved there by another tool: who did, and why, is not known.';
    expect([moved(undefined, '2'), moved(entry(), '3')]).toEqual([unknown, unknown]);
    const told = 'It was moved there by ann, 60 s ago, by promote from cli (champion: 1 → 2). No reason was given.';
    expect(moved(entry({ reason: '' }), '2', Date.parse(DAY) + 60_000)).toBe(told);
    expect(pointing('champion', undefined)).toBe('The alias champion points at no version yet.');
  });

  it('tells a metric apart by its gate where there are several', () => {
    const versions = [version(2, { aliases: ['champion'] }), version(1)];
    const one = new Map([
      ['1', [report()]],
      ['2', [report()]]
    ]);
    expect(measured(one, versions).map(each => [each.version, each.metric])).toEqual([
      ['1', 'roc_auc'],
      ['2', 'roc_auc']
    ]);
    const two = new Map([['2', [report(), report({ gate: 'fair' })]]]);
    expect(measured(two, versions).map(each => each.metric)).toEqual(['roc_auc (gate default)', 'roc_auc (gate fair)']);
  });

  it('marks the version that the alias points at', () => {
    const points = measured(new Map([['2', [report()]]]), [version(2, { aliases: ['champion'] })]);
    expect((plot('roc_auc', points, 'champion').data as { values: unknown }).values).toEqual([
      { version: '2', value: 0.7206, aliases: 'champion', marked: true }
    ]);
    expect(described('roc_auc', points)).toBe('roc_auc of each version: 2 0.7206 (champion)');
  });

  it('finds the version that was judged last, which need not be the newest', () => {
    const versions = [version(3, { judged_at: null }), version(2), version(1, { judged_at: '2014-01-01T00:00:00Z' })];
    expect(newestJudged(versions)?.version).toBe('1');
    expect(newestJudged([])).toBeUndefined();
  });

  it('names the champion first', () => {
    expect(pointed({ canary: '4', champion: '2', best: '1' })).toEqual(['champion 2', 'best 1', 'canary 4']);
  });
});
