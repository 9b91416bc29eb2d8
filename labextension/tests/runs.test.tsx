/** The section of runs, in each of its states. */

import { act, cleanup, fireEvent, render, screen, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import * as React from 'react';
import { afterEach, describe, expect, it } from 'vitest';

import { Refusal } from '../src/client';
import { EVENT } from '../src/tokens';
import { Run } from '../src/types';
import { RunsView } from '../src/views/runs';
import { PROJECT, stand } from './doubles';

const HOSTILE = `<img src=x onerror=alert(1)><svg onload=alert(2)> javascript:alert(3) \u202egnp.exe`;

afterEach(cleanup);

function run(n: number, more: Partial<Run> = {}): Run {
  const empty = { params: {}, tags: {}, curves: {}, changes: [], data: {} };
  return {
    ...empty,
    run_id: `${n}`.padStart(32, '0'),
    name: `run ${n}`,
    status: 'FINISHED',
    started_at: '2013-06-30T12:00:00Z',
    duration_s: 1,
    metrics: { auc: n / 10 },
    error: '',
    ...more
  } as unknown as Run;
}

describe('runs', () => {
  it('are listed with their state, metric and curve', async () => {
    const place = await stand({ runs: [run(1, { curves: { auc: [0, 0.1] } }), run(2, { status: 'FAILED' })] });
    render(<RunsView />, { wrapper: place.Around });
    const rows = await screen.findAllByRole('listitem');
    expect(within(rows[0]).getByText('0.1')).toBeTruthy();
    expect(within(rows[0]).getByRole('img', { name: 'auc: from 0 to 0.1' })).toBeTruthy();
    expect(within(rows[1]).getByText('FAILED')).toBeTruthy();
  });

  it('are compared when two are chosen', async () => {
    const place = await stand({ runs: [run(1), run(2)] });
    render(<RunsView />, { wrapper: place.Around });
    const user = userEvent.setup();
    expect((await screen.findByRole('button', { name: 'Compare' })).hasAttribute('disabled')).toBe(true);
    await user.click(await screen.findByRole('checkbox', { name: 'Choose run 1' }));
    await user.click(screen.getByRole('checkbox', { name: 'Choose run 2' }));
    await user.click(screen.getByRole('button', { name: 'Compare 2' }));
    expect(place.opened).toEqual([[{ kind: 'comparison', names: [run(1).run_id, run(2).run_id] }, '']]);
  });

  it('show the best by a metric', async () => {
    const answers = (args: object): Run[] => ('sort' in args ? [run(2)] : [run(1), run(2)]);
    const place = await stand({ runs: answers });
    render(<RunsView />, { wrapper: place.Around });
    await screen.findByText('run 2');
    await userEvent.setup().selectOptions(screen.getByRole('combobox', { name: 'Metric' }), 'auc');
    const best = await screen.findByText('best');
    expect(within(best.closest('li') as HTMLElement).getByText('run 2')).toBeTruthy();
  });

  it('are asked for again when the store has changed', async () => {
    const place = await stand({ runs: [run(1)] });
    render(<RunsView />, { wrapper: place.Around });
    await screen.findByText('run 1');
    place.server.answers = { runs: [run(3), run(1)] };
    act(() =>
      place.told.emit({ schema_id: EVENT, root: PROJECT.root, stamps: { ...PROJECT.stamps, runs: '2' } } as never)
    );
    expect(await screen.findByText('run 3')).toBeTruthy();
  });

  it('keep the focus when a newer one comes above them', async () => {
    const place = await stand({ runs: [run(1)] });
    render(<RunsView />, { wrapper: place.Around });
    (await screen.findByRole('checkbox', { name: 'Choose run 1' })).focus();
    place.server.answers = { runs: [run(3), run(1)] };
    act(() =>
      place.told.emit({ schema_id: EVENT, root: PROJECT.root, stamps: { ...PROJECT.stamps, runs: '2' } } as never)
    );
    await screen.findByText('run 3');
    expect(document.activeElement?.getAttribute('aria-label')).toBe('Choose run 1');
  });

  it('have a row that stands still until they are known', async () => {
    const first = Array.from({ length: 50 }, (_, n) => run(n));
    const never = new Promise<Run[]>(() => undefined);
    const place = await stand({ runs: ({ offset }: { offset: number }) => (offset === 0 ? first : never) });
    const { container } = render(<RunsView />, { wrapper: place.Around });
    await screen.findByText('run 0');
    const list = container.querySelector('.nbm-List') as HTMLElement;
    list.scrollTop = 70 * 48;
    fireEvent.scroll(list);
    expect(screen.queryByText('run 0')).toBeNull();
    expect(container.querySelectorAll('.nbm-mod-coming').length).toBeGreaterThan(10);
    expect(container.querySelectorAll('.nbm-Loading-bar')).toHaveLength(0); // each moves, which costs frames
    expect(screen.queryAllByRole('status')).toHaveLength(0);
  });

  it('have one next step when there are none', async () => {
    const place = await stand({ runs: [] });
    render(<RunsView />, { wrapper: place.Around });
    await userEvent.setup().click(await screen.findByRole('button', { name: 'Track a run' }));
    expect(place.proposed[0][0]).toBe('track');
  });

  it('say what went wrong and what to do', async () => {
    const failure = { type: 'StoreError', message: 'MLflow is out of reach.', hint: 'Start it.', exit_code: 10 };
    const place = await stand({ runs: new Refusal(failure, 503) });
    render(<RunsView />, { wrapper: place.Around });
    const problem = (await screen.findAllByRole('alert'))[0];
    expect(problem.textContent).toContain('MLflow is out of reach.');
    expect(problem.textContent).toContain('Start it.');
  });

  it('show hostile names as text alone', async () => {
    const hostile = run(1, { name: HOSTILE, error: HOSTILE, metrics: { [HOSTILE]: 1 }, status: HOSTILE });
    const place = await stand({ runs: [hostile] });
    const { container } = render(<RunsView />, { wrapper: place.Around });
    await screen.findAllByRole('listitem');
    expect(container.querySelector('img, script, [onerror], [onload], a[href]')).toBeNull();
    expect(container.textContent).toContain('<img src=x onerror=alert(1)>');
    expect(container.textContent).not.toContain('\u202e');
  });
});
