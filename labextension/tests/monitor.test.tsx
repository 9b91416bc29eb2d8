/** The section that monitors, and a report's page, in each of their states. */

import { act, cleanup, render, screen, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import * as React from 'react';
import { afterEach, describe, expect, it } from 'vitest';

import { Refusal } from '../src/client';
import { nUntested, ranked, verdict, worstFirst } from '../src/drift';
import { bars, lines, missing, MonitorPage } from '../src/pages/monitor';
import { EVENT } from '../src/tokens';
import { AlertRow, ColumnDrift, DriftEntry } from '../src/types';
import { moved, MonitorView } from '../src/views/monitor';
import { PROJECT, Stand, stand } from './doubles';

const HOSTILE = `<img src=x onerror=alert(1)><svg onload=alert(2)> javascript:alert(3) \u202egnp.exe`;

afterEach(cleanup);

function column(name: string, statistic: number | null, more: Partial<ColumnDrift> = {}): ColumnDrift {
  const figures = { p_value: 0.001, psi: 0.3, missing_reference: 0, missing_current: 0 };
  const words = { summary: 'mean', reference: 46.6, current: 70.4, note: '' };
  return {
    name,
    drifted: (statistic ?? 0) > 0.05,
    method: statistic === null ? '' : 'ks',
    statistic,
    ...figures,
    ...words,
    ...more
  };
}

function report(current: string, columns: readonly ColumnDrift[], more: Partial<DriftEntry> = {}): DriftEntry {
  const n_drifted = columns.filter(({ drifted }) => drifted).length;
  return {
    event: current.length,
    at: '2013-06-30T12:00:00Z',
    by: 'ada',
    current,
    reference: 'train',
    drifted: n_drifted > 0,
    n_current: 1000,
    n_reference: 5000,
    n_drifted,
    columns,
    curves: {},
    ...more
  };
}

const DRIFTED = report('march', [column('day', 0.01), column('wind', 0.1), column('temp', 0.8)], {
  curves: { temp: [0.1, 0.4, 0.8] }
});
const ALERT: AlertRow = {
  name: 'oncall',
  on: ['slo', 'drift'],
  to: 'webhook:env:HOOK',
  muted_until: null,
  waiting: 0,
  last: '',
  problem: ''
};

async function shown(answers: object): Promise<Stand> {
  const place = await stand({ drift: [], alert: [], endpoints: [], ...answers } as never);
  render(<MonitorView />, { wrapper: place.Around });
  return place;
}

describe('the monitor', () => {
  it('ranks the columns that drifted, with their effect and how it came about', async () => {
    await shown({ drift: [DRIFTED] });
    const rows = within(await screen.findByRole('list', { name: 'Columns of march, the worst first' })).getAllByRole(
      'listitem'
    );
    expect(rows.map(row => row.textContent)).toEqual(['temp0.8', 'wind0.1']);
    expect(
      within(rows[0]).getByRole('img', { name: 'effect on temp, report by report: from 0.1 to 0.8' })
    ).toBeTruthy();
    expect(screen.getByText(/^2 of 3 columns drifted/)).toBeTruthy();
  });

  it('says what did not drift, and what could not be told', async () => {
    await shown({ drift: [report('june', [column('day', 0.01), column('few', null)])] });
    expect(await screen.findByText('no drift')).toBeTruthy();
    expect(screen.getByText('1 had too few values to tell')).toBeTruthy();
  });

  it('opens a report’s page', async () => {
    const place = await shown({ drift: [DRIFTED] });
    await userEvent.setup().click(await screen.findByRole('button', { name: 'march' }));
    expect(place.opened).toEqual([[{ kind: 'monitor', names: ['march'] }, '']]);
  });

  it('proposes to judge an endpoint again, and no table of which the path is not known', async () => {
    const place = await shown({
      drift: [DRIFTED, report('delays', [column('temp', 0.3)])],
      endpoints: [{ name: 'delays' }]
    });
    await userEvent.setup().click(await screen.findByRole('button', { name: 'Measure again …' }));
    expect(place.proposed[0].slice(0, 2)).toEqual(['drift', { current: 'delays' }]);
  });

  it('has one next step when nothing was measured', async () => {
    const place = await shown({ endpoints: [{ name: 'delays' }] });
    await userEvent.setup().click(await screen.findByRole('button', { name: 'Measure drift …' }));
    expect(place.proposed[0].slice(0, 2)).toEqual(['drift', { current: 'delays' }]);
  });

  it('lists alerts, with what keeps them from telling', async () => {
    const place = await shown({
      alert: [{ ...ALERT, problem: 'HOOK is not set.', muted_until: '2999-01-01T00:00:00Z' }]
    });
    expect(await screen.findByText('HOOK is not set.')).toBeTruthy();
    expect(screen.getByText('muted')).toBeTruthy();
    await userEvent.setup().click(screen.getByRole('button', { name: 'oncall' }));
    expect(place.proposed[0].slice(0, 2)).toEqual(['alert', { name: 'oncall' }]);
  });

  it('asks again when a report is added', async () => {
    const place = await shown({ drift: [] });
    await screen.findByText(/No drift has been measured/);
    place.server.answers = { ...place.server.answers, drift: [DRIFTED] };
    const stamps = { ...PROJECT.stamps, ledger: '2' };
    act(() => place.told.emit({ schema_id: EVENT, root: PROJECT.root, stamps } as never));
    expect(await screen.findByRole('button', { name: 'march' })).toBeTruthy();
  });

  it('shows that it loads, and what went wrong', async () => {
    await shown({ drift: new Promise(() => undefined) });
    expect(screen.getByRole('status', { name: 'Loading' })).toBeTruthy();
    cleanup();
    const failure = { type: 'StoreError', message: 'The ledger is out of reach.', hint: 'Start it.', exit_code: 10 };
    await shown({ drift: new Refusal(failure, 503) });
    expect((await screen.findByRole('alert')).textContent).toContain('Start it.');
  });

  it('shows hostile words as text alone, in the section and on the page', async () => {
    const words = { summary: HOSTILE, reference: HOSTILE, current: HOSTILE, note: HOSTILE, method: HOSTILE };
    const hostile = report(HOSTILE, [column(HOSTILE, 0.5, words)], {
      reference: HOSTILE,
      by: HOSTILE,
      curves: { [HOSTILE]: [0, 1] }
    });
    const alert = { ...ALERT, name: HOSTILE, on: [HOSTILE], last: HOSTILE, problem: HOSTILE };
    const place = await shown({ drift: [hostile], alert: [alert] });
    render(<MonitorPage names={[HOSTILE]} />, { wrapper: place.Around });
    await screen.findByRole('table');
    expect(document.querySelector('img, script, [onerror], [onload], a[href]')).toBeNull();
    expect(document.body.textContent).toContain('<img src=x onerror=alert(1)>');
    expect(document.body.textContent).not.toContain('\u202e');
  });
});

describe('a report’s page', () => {
  it('has every column, the worst first', async () => {
    const place = await stand({ drift: [DRIFTED] });
    render(<MonitorPage names={['march']} />, { wrapper: place.Around });
    const rows = within(await screen.findByRole('table'))
      .getAllByRole('row')
      .slice(1);
    expect(rows.map(row => within(row).getByRole('rowheader').textContent)).toEqual(['temp', 'wind', 'day']);
    expect(screen.getByText(/1,000 rows against 5,000 of train/)).toBeTruthy();
  });

  it('says so when there is no report about it any more', async () => {
    const place = await stand({ drift: [] });
    render(<MonitorPage names={['march']} />, { wrapper: place.Around });
    await userEvent.setup().click(await screen.findByRole('button', { name: 'Measure drift …' }));
    expect(place.proposed[0][0]).toBe('drift');
  });

  it('draws an effect for each column that was tested, and the curves there are', () => {
    const columns = ranked([column('few', null), ...DRIFTED.columns]);
    const values = (specification: unknown): readonly { column: string }[] =>
      (specification as { data: { values: { column: string }[] } }).data.values;
    expect(values(bars(columns)).map(each => each.column)).toEqual(['temp', 'wind', 'day']);
    expect(values(lines(columns, DRIFTED.curves))).toEqual([
      { column: 'temp', report: -2, effect: 0.1 },
      { column: 'temp', report: -1, effect: 0.4 },
      { column: 'temp', report: 0, effect: 0.8 }
    ]);
  });
});

describe('what is said of drift', () => {
  it('puts what drifted first, then the newest', () => {
    const calm = report('calm', [column('day', 0)]);
    const later = report('later', [column('temp', 0.5)], { at: '2013-07-01T00:00:00Z' });
    expect(worstFirst([calm, DRIFTED, later]).map(({ current }) => current)).toEqual(['later', 'march', 'calm']);
  });

  it('ranks columns that could not be tested last', () => {
    const columns = [column('few', null), column('day', 0.01), column('missing', 0.02, { drifted: true })];
    expect(ranked(columns).map(({ name }) => name)).toEqual(['missing', 'day', 'few']);
    expect(nUntested(report('x', columns))).toBe(1);
    expect(verdict(report('x', columns))).toBe('1 of 3 columns drifted');
  });

  it('words from what to what a column moved, and what is missing', () => {
    expect(moved(column('temp', 0.5))).toBe('mean 46.6 → 70.4');
    expect(moved(column('few', null, { summary: '' }))).toBe('');
    expect(missing(column('temp', 0.5, { missing_current: 0.123 }))).toBe('0\u00a0% → 12\u00a0%');
    expect(missing(column('temp', 0.5))).toBe('');
  });
});
