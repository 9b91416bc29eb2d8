/** Runs of this notebook or of the project: how they went, which is best; two or more are compared. */

import { Button, HTMLSelect } from '@jupyterlab/ui-components';
import { PathExt } from '@jupyterlab/coreutils';
import * as React from 'react';

import { Empty, Problem, Loading, useAnswer } from '../components/answer';
import { Chip } from '../components/chip';
import { PageLink } from '../components/link';
import { WindowedList } from '../components/list';
import { usePagedRuns } from '../components/paged';
import { usePlace } from '../components/place';
import { Sparkline } from '../components/sparkline';
import { Run } from '../types';
import { ago, isLowerBetter, number, plain } from '../words';

const ROW_PX = 48;

export function RunsView(): JSX.Element {
  const { model, actions, folder } = usePlace();
  const [isHere, setHere] = React.useState(false);
  const [metric, setMetric] = React.useState('');
  const [chosen, setChosen] = React.useState<ReadonlySet<string>>(new Set());
  const notebook = isHere && model.notebook ? PathExt.relative(folder, model.notebook) : '';
  const runs = usePagedRuns({ curves: true, ...(notebook && { notebook }) }, ['runs']);
  const best = useBest(metric, notebook);
  const metrics = namesOf(Array.from({ length: Math.min(runs.n, 50) }, (_, place) => runs.at(place)));
  const offered = [...new Set([...metrics, ...(metric ? [metric] : [])])];

  const choose = (run: Run): void => {
    const next = new Set(chosen);
    next.delete(run.run_id) || next.add(run.run_id);
    setChosen(next);
  };
  const row = (place: number): React.ReactNode => {
    const run = runs.at(place);
    return run ? (
      <RunRow
        run={run}
        metric={metric || Object.keys(run.metrics)[0] || ''}
        isBest={run.run_id === best}
        isChosen={chosen.has(run.run_id)}
        choose={() => choose(run)}
      />
    ) : (
      <div className="nbm-Row nbm-mod-coming" />
    );
  };

  return (
    <>
      <div className="nbm-Tools">
        <HTMLSelect
          aria-label="Whose runs"
          value={isHere ? 'notebook' : 'project'}
          onChange={event => setHere(event.target.value === 'notebook')}
        >
          <option value="project">All runs</option>
          <option value="notebook" disabled={!model.notebook}>
            This notebook
          </option>
        </HTMLSelect>
        <HTMLSelect
          aria-label="Metric"
          value={metric && offered.indexOf(metric)}
          onChange={event => setMetric(event.target.value && offered[Number(event.target.value)])}
        >
          <option value="">Metric …</option>
          {offered.map((name, place) => (
            <option key={name} value={place}>
              {plain(name, 40)}
            </option>
          ))}
        </HTMLSelect>
        <Button
          className="jp-mod-styled"
          disabled={chosen.size < 2}
          onClick={() => actions.openPage({ kind: 'comparison', names: [...chosen] }, folder)}
        >
          {chosen.size < 2 ? 'Compare' : `Compare ${chosen.size}`}
        </Button>
      </div>
      {runs.error && <Problem error={runs.error} isStale={runs.isKnown} />}
      {!runs.isKnown && !runs.error && <Loading />}
      {runs.isKnown && runs.n === 0 && (
        <Empty step={() => void actions.propose('track', {})} label="Track a run">
          No runs yet. Begin a cell with %%mlops track, and what it logs is here as it comes.
        </Empty>
      )}
      <WindowedList
        n={runs.n}
        height={ROW_PX}
        label="Runs, the newest first"
        row={row}
        about={place => runs.at(place)?.run_id}
        onView={runs.onView}
      />
    </>
  );
}

/** The id of the run that is best by a metric; empty without one. */
function useBest(metric: string, notebook: string): string {
  const sort = isLowerBetter(metric) ? `-${metric}` : metric;
  const best = metric ? { limit: 1, sort, ...(notebook && { notebook }) } : null;
  const answer = useAnswer('runs', best, ['runs']);
  return (metric && answer.value?.[0]?.run_id) || '';
}

interface RunRowProps {
  readonly run: Run;
  readonly metric: string;
  readonly isBest: boolean;
  readonly isChosen: boolean;
  readonly choose: () => void;
}

function RunRow({ run, metric, isBest, isChosen, choose }: RunRowProps): JSX.Element {
  const name = plain(run.name, 80);
  const value = metric in run.metrics ? run.metrics[metric] : undefined;
  return (
    <div className="nbm-Row" title={run.error ? plain(run.error) : undefined}>
      <input type="checkbox" aria-label={`Choose ${name}`} checked={isChosen} onChange={choose} />
      <div className="nbm-Row-body">
        <div className="nbm-Row-line">
          <PageLink kind="run" name={run.run_id} words={run.name} />
          {isBest && <Chip word="best" tone="best" />}
          <Chip word={run.status} />
        </div>
        <div className="nbm-Row-line nbm-dim">
          {value === undefined ? (
            <span>{ago(run.started_at)}</span>
          ) : (
            <>
              <span>{plain(metric, 30)}</span>
              <strong>{number(value)}</strong>
              {run.curves[metric] && <Sparkline values={run.curves[metric]} label={plain(metric, 60)} />}
              <span>{ago(run.started_at)}</span>
            </>
          )}
        </div>
      </div>
    </div>
  );
}

/** The names of the metrics that runs have, the commonest first. Pure. */
export function namesOf(runs: readonly (Run | undefined)[]): string[] {
  const counts = new Map<string, number>();
  for (const name of runs.flatMap(run => Object.keys(run?.metrics ?? {}))) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts.keys()].sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0) || a.localeCompare(b));
}
