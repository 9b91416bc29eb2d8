/** The page of two runs or more: in what they differ, and how their metrics came about. */

import * as React from 'react';

import { Answered, useAnswer } from '../components/answer';
import { Plot } from '../components/plot';
import { Table } from '../components/table';
import { bars, curves } from '../curves';
import { Comparison, Difference, Run } from '../types';
import { cell, number, plain, words } from '../words';
import { PageProps } from '.';

const MOST_PLOTS = 6;

export function ComparisonPage({ names }: PageProps): JSX.Element {
  const comparison = useAnswer('compare', { runs: names }, ['runs']);
  const runs = useAnswer('runs', { where: oneOf(names), limit: names.length, curves: true }, ['runs']);
  return (
    <article>
      <h1>{names.length} runs compared</h1>
      <Answered answer={comparison}>{value => <Differences comparison={value} />}</Answered>
      {runs.value && <Metrics runs={runs.value} />}
    </article>
  );
}

function Differences({ comparison }: { readonly comparison: Comparison }): JSX.Element {
  const [kind, setKind] = React.useState('');
  const kinds = [...new Set(comparison.differences.map(each => each.kind))];
  const shown = comparison.differences.filter(each => kind === '' || each.kind === kind);
  return (
    <section aria-label="Differences">
      <div className="nbm-Tools" role="group" aria-label="What to show">
        {['', ...kinds].map(each => (
          <button key={each} className="jp-mod-styled" aria-pressed={kind === each} onClick={() => setKind(each)}>
            {each === '' ? 'all' : `${each}s`}
          </button>
        ))}
        <span className="nbm-dim">{comparison.equal} more are equal</span>
      </div>
      <Table
        headings={['kind', 'name', ...comparison.names.map(name => plain(name, 40)), 'gap']}
        rows={shown}
        row={each => <Line key={`${each.kind} ${each.name}`} difference={each} />}
      />
    </section>
  );
}

function Line({ difference: { kind, name, values, gap } }: { readonly difference: Difference }): JSX.Element {
  const best = kind === 'metric' && typeof gap === 'number' ? gap : 0;
  return (
    <tr>
      <td className="nbm-dim">{words(kind)}</td>
      <th scope="row">{plain(name, 80)}</th>
      {values.map((value, n) => (
        <td key={n}>{cell(value)}</td>
      ))}
      <td>{best === 0 ? number(gap) : `${best > 0 ? '+' : ''}${number(best)}`}</td>
    </tr>
  );
}

function Metrics({ runs }: { readonly runs: readonly Run[] }): JSX.Element {
  const drawn = [...new Set(runs.flatMap(run => Object.keys(run.curves)))].slice(0, MOST_PLOTS);
  const told = [...new Set(runs.flatMap(run => Object.keys(run.metrics)))].slice(0, MOST_PLOTS);
  return (
    <section aria-label="Metrics">
      <h2>Metrics</h2>
      <div className="nbm-Grid">
        {told.map(metric => (
          <Plot
            key={metric}
            label={`${plain(metric, 60)} of each run`}
            specification={drawn.includes(metric) ? curves(metric, runs) : bars(metric, runs)}
          />
        ))}
      </div>
    </section>
  );
}

/** MLflow's filter for runs by their ids, which are hexadecimal: anything else is left out. Pure. */
export function oneOf(ids: readonly string[]): string {
  const known = ids.filter(id => /^[0-9a-f]+$/i.test(id));
  return `attributes.run_id IN (${known.map(id => `'${id}'`).join(', ')})`;
}
