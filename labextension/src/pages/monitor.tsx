/** The page of what was judged for drift: every column, how far it moved, and how it was in the reports before. */

import * as React from 'react';

import { Answered, Empty } from '../components/answer';
import { Chip } from '../components/chip';
import { usePlace } from '../components/place';
import { Plot, Specification } from '../components/plot';
import { Sparkline } from '../components/sparkline';
import { Table } from '../components/table';
import { LIMIT, ranked, verdict } from '../drift';
import { ColumnDrift, DriftEntry } from '../types';
import { moved, rounded, useReports, Verdict } from '../views/monitor';
import { ago, number, own, plain } from '../words';
import { PageProps } from '.';

const MOST_BARS = 30;
const MOST_CURVES = 6;

export function MonitorPage({ names: [name = ''] }: PageProps): JSX.Element {
  const { actions, folder } = usePlace();
  const answer = useReports();
  return (
    <article>
      <Answered answer={answer}>
        {reports => {
          const report = reports.find(({ current }) => current === name);
          return report ? (
            <Shown report={report} />
          ) : (
            <Empty step={() => void actions.propose('drift', {}, undefined, folder)} label="Measure drift …">
              No report about {plain(name, 100)} is among the latest ones.
            </Empty>
          );
        }}
      </Answered>
    </article>
  );
}

function Shown({ report }: { readonly report: DriftEntry }): JSX.Element {
  const { current, reference, drifted, at, by, n_current, n_reference, curves } = report;
  const columns = ranked(report.columns);
  return (
    <>
      <h1>
        {plain(current, 100)} <Verdict drifted={drifted} />
      </h1>
      <p className="nbm-dim">
        {verdict(report)}. Measured {ago(at)} by {plain(by, 60)}: {number(n_current)} rows against {number(n_reference)}{' '}
        of {plain(reference, 200)}.
      </p>
      <Plot
        label={`Effect on each column of ${plain(current, 60)}, and the limit of ${LIMIT}`}
        specification={bars(columns)}
      />
      <h2>Columns, the worst first</h2>
      <Columns columns={columns} curves={curves} />
      <h2>Over the reports</h2>
      {Object.keys(curves).length ? (
        <Plot label="Effect on the worst columns, report by report" specification={lines(columns, curves)} />
      ) : (
        <p className="nbm-dim">It was measured once. From the second report on, this shows how each column moves.</p>
      )}
    </>
  );
}

/** A bar for each column, and the limit; a column that could not be tested has none. Pure. */
export function bars(columns: readonly ColumnDrift[]): Specification {
  const tested = columns.filter(({ statistic }) => typeof statistic === 'number').slice(0, MOST_BARS);
  const values = tested.map(({ name, statistic, drifted }) => ({
    column: plain(name, 40),
    effect: statistic,
    verdict: drifted ? 'drifted' : 'no drift'
  }));
  return {
    height: 50 + 18 * values.length,
    data: { values },
    encoding: { y: { field: 'column', type: 'nominal', title: null, sort: null } },
    layer: [
      {
        mark: 'bar',
        encoding: {
          x: {
            field: 'effect',
            type: 'quantitative',
            title: 'effect',
            scale: { domain: [0, 1] },
            axis: { tickCount: 5 }
          },
          color: { field: 'verdict', type: 'nominal', title: null, scale: { domain: ['no drift', 'drifted'] } }
        }
      },
      { mark: { type: 'rule', color: 'currentcolor', strokeDash: [4, 4] }, encoding: { x: { datum: LIMIT }, y: null } }
    ]
  };
}

/** The worst columns' effects, report by report; each curve ends with the newest. Pure. */
export function lines(columns: readonly ColumnDrift[], curves: DriftEntry['curves']): Specification {
  const worst = columns.filter(({ name }) => name in curves).slice(0, MOST_CURVES);
  const values = worst.flatMap(({ name }) =>
    curves[name].map((effect, place) => ({
      column: plain(name, 40),
      report: place + 1 - curves[name].length,
      effect: typeof effect === 'number' ? effect : null
    }))
  );
  return {
    data: { values },
    mark: { type: 'line', point: true },
    encoding: {
      x: { field: 'report', type: 'ordinal', title: 'report (0 is the newest)', axis: { labelAngle: 0 } },
      y: { field: 'effect', type: 'quantitative', title: 'effect', scale: { domain: [0, 1] } },
      color: { field: 'column', type: 'nominal', title: null, sort: null }
    }
  };
}

const METHODS: Readonly<Record<string, string>> = { ks: 'KS distance', chi2: 'Cramér’s V' };
const HEADINGS = ['column', 'verdict', 'effect', 'lately', 'p-value', 'PSI', 'moved', 'missing', 'method', 'note'];

interface ColumnsProps {
  readonly columns: readonly ColumnDrift[];
  readonly curves: DriftEntry['curves'];
}

function Columns({ columns, curves }: ColumnsProps): JSX.Element {
  return (
    <Table
      headings={HEADINGS}
      rows={columns}
      row={column => <Line key={column.name} column={column} lately={curves[column.name]} />}
    />
  );
}

interface LineProps {
  readonly column: ColumnDrift;
  readonly lately: DriftEntry['curves'][string] | undefined;
}

function Line({ column, lately }: LineProps): JSX.Element {
  const { name, drifted, method, statistic, p_value, psi, note } = column;
  return (
    <tr>
      <th scope="row">{plain(name, 80)}</th>
      <td>{method || drifted ? <Verdict drifted={drifted} /> : <Chip word="not tested" tone="calm" />}</td>
      <td className="nbm-Short">{number(rounded(statistic))}</td>
      <td>{lately && <Sparkline values={lately} label={`effect on ${plain(name, 60)}, report by report`} />}</td>
      <td className="nbm-Short">{number(rounded(p_value))}</td>
      <td className="nbm-Short">{number(rounded(psi))}</td>
      <td>{moved(column)}</td>
      <td className="nbm-Short">{missing(column)}</td>
      <td className="nbm-Short nbm-dim">{own(METHODS, method) ?? plain(method, 20)}</td>
      <td className="nbm-dim">{plain(note)}</td>
    </tr>
  );
}

/** Word the shares of rows without a value, before and now; empty where none misses. Pure. */
export function missing({ missing_reference: before, missing_current: now }: ColumnDrift): string {
  const percent = (share: number | string): string =>
    typeof share === 'number' ? `${number(rounded(share * 100))}\u00a0%` : share;
  return before === 0 && now === 0 ? '' : `${percent(before)} → ${percent(now)}`;
}
