/** How metrics went, as plots: over the steps at which they were logged. Pure. */

import { Specification } from './components/plot';
import { Run } from './types';
import { plain } from './words';

/** One metric of some runs, a line each; a run that has few steps ends early. */
export function curves(metric: string, runs: readonly Run[]): Specification {
  const values = runs.flatMap(run =>
    (run.curves[metric] ?? []).map((value, place) => ({
      run: label(run),
      step: run.steps[metric]?.[place] ?? place,
      value: finite(value)
    }))
  );
  return {
    title: plain(metric, 60),
    data: { values },
    mark: { type: 'line', interpolate: 'monotone' },
    encoding: {
      x: { field: 'step', type: 'quantitative', title: 'step' },
      y: { field: 'value', type: 'quantitative', title: null, scale: { zero: false } },
      ...(runs.length > 1 && { color: { field: 'run', type: 'nominal', title: null } })
    }
  };
}

/** One metric of some runs that have one value of it. */
export function bars(metric: string, runs: readonly Run[]): Specification {
  return {
    title: plain(metric, 60),
    data: { values: runs.map(run => ({ run: label(run), value: finite(run.metrics[metric]) })) },
    mark: { type: 'bar', height: { band: 0.6 } },
    encoding: {
      y: { field: 'run', type: 'nominal', title: null, sort: null },
      x: { field: 'value', type: 'quantitative', title: null },
      color: { field: 'run', type: 'nominal', legend: null }
    }
  };
}

function label(run: Run): string {
  return `${plain(run.name, 30)} ${run.run_id.slice(0, 4)}`;
}

function finite(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}
