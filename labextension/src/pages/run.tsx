/** The page of one run: how it went, what it logged, and how its metrics came about. */

import * as React from 'react';

import { Arguments } from '../client';
import { Answered, useAnswer } from '../components/answer';
import { Card, Facts } from '../components/card';
import { Chip } from '../components/chip';
import { usePlace } from '../components/place';
import { Plot } from '../components/plot';
import { curves } from '../curves';
import { Run, VerbName } from '../types';
import { ago, lasted, plain } from '../words';
import { PageProps } from '.';

export function RunPage({ names }: PageProps): JSX.Element {
  const answer = useAnswer('show', { what: names[0] }, ['runs']);
  return <Answered answer={answer}>{run => <Shown run={run as Run} />}</Answered>;
}

function Shown({ run }: { readonly run: Run }): JSX.Element {
  const { actions, folder } = usePlace();
  const propose = (verb: VerbName, args: Arguments) => (): void => void actions.propose(verb, args, undefined, folder);
  const { curves: drawn, steps, metrics, params, tags, changes, run_id, name, status, ...facts } = run;
  return (
    <article>
      <h1>
        {plain(name, 100)} <Chip word={status} />
      </h1>
      <p className="nbm-dim">
        {ago(run.started_at)}
        {run.duration_s !== null && `, took ${lasted(run.duration_s)}`} · {plain(run_id, 40)}
      </p>
      {run.error && <pre className="nbm-Text nbm-mod-bad">{plain(run.error, 2000)}</pre>}
      <div className="nbm-Buttons">
        <button className="jp-mod-styled" onClick={propose('compare', { runs: [run_id] })}>
          Compare …
        </button>
        <button className="jp-mod-styled" onClick={propose('reproduce', { run: run_id })}>
          Reproduce …
        </button>
        <button className="jp-mod-styled" onClick={propose('register', { what: run_id })}>
          Register its model …
        </button>
      </div>
      <div className="nbm-Grid">
        {Object.keys(drawn).map(metric => (
          <Plot key={metric} label={`${plain(metric, 60)} over its steps`} specification={curves(metric, [run])} />
        ))}
      </div>
      <Section title="Metrics" of={metrics} />
      <Section title="Parameters" of={params} />
      {changes.length > 0 && (
        <>
          <h2>Changed since the attempt before</h2>
          <Card result={changes} />
        </>
      )}
      <Section title="Tags" of={tags} />
      <h2>How it was run</h2>
      <Card result={facts} />
    </article>
  );
}

function Section({
  title,
  of
}: {
  readonly title: string;
  readonly of: Readonly<Record<string, unknown>>;
}): JSX.Element {
  return (
    <>
      {Object.keys(of).length > 0 && (
        <section className="nbm-Card">
          <h2>{title}</h2>
          <Facts of={of} />
        </section>
      )}
    </>
  );
}
