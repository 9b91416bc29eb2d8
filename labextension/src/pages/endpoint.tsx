/** The page of one endpoint: how its versions do and did since the page was opened, and how it is called. */

import * as React from 'react';

import { Answered, Empty, useAnswer } from '../components/answer';
import { Card } from '../components/card';
import { Chip } from '../components/chip';
import { Rolling, Shares, Steps, Trouble } from '../components/endpoint';
import { usePlace } from '../components/place';
import { Plot, Specification } from '../components/plot';
import { Figures } from '../components/traffic';
import { quoted } from '../line';
import { errors, EVERY_MS, isAtRest, kept, latencies, Point, rates, Sample, sampled } from '../samples';
import { Endpoint, HistoryEntry } from '../types';
import { ago, own, plain } from '../words';
import { PageProps } from '.';

const MOST_MOVES = 20;
const MOVING = ['promote', 'rollback'];

export function EndpointPage({ names: [name] }: PageProps): JSX.Element {
  const { actions } = usePlace();
  const answer = useAnswer('endpoints', {}, ['endpoints', 'ledger']);
  const found = answer.value?.find(each => each.name === name);
  const samples = useSamples(found);
  return (
    <article>
      <Answered answer={answer}>
        {() =>
          found ? (
            <Shown endpoint={found} samples={samples} />
          ) : (
            <Empty step={() => actions.openView('deployments')} label="Show what is deployed">
              No endpoint is called {plain(name ?? '', 100)} now.
            </Empty>
          )
        }
      </Answered>
    </article>
  );
}

/**
 * Keep what successive answers say: the page's own record since it was opened. An answer comes when something was
 * counted; that nothing was counted any more is noted once, so that a rate comes down to zero.
 */
function useSamples(endpoint: Endpoint | undefined): readonly Sample[] {
  const { isSeen } = usePlace();
  const [samples, note] = React.useReducer(kept, []);
  const last = samples[samples.length - 1]?.at;
  React.useEffect(() => endpoint && note(sampled(endpoint.traffic, Date.now())), [endpoint]);
  React.useEffect(() => {
    if (!endpoint || !isSeen || isAtRest(samples)) {
      return undefined;
    }
    const later = setTimeout(() => note(sampled(endpoint.traffic, Date.now())), 2 * EVERY_MS);
    return () => clearTimeout(later);
  }, [endpoint, isSeen, last]);
  return samples;
}

interface ShownProps {
  readonly endpoint: Endpoint;
  readonly samples: readonly Sample[];
}

function Shown({ endpoint, samples }: ShownProps): JSX.Element {
  const { name, model, version, follows, status, since, traffic } = endpoint;
  return (
    <>
      <h1>
        {plain(name, 100)} <Chip word={plain(status, 20)} />
      </h1>
      <p className="nbm-dim">
        {plain(follows || `${model}/${version}`, 100)}, {ago(since)}
      </p>
      <Trouble endpoint={endpoint} />
      <Rolling endpoint={endpoint} />
      <Figures shares={traffic} />
      <Shares endpoint={endpoint} />
      <Steps endpoint={endpoint} />
      <Course samples={samples} />
      <Refused refused={endpoint.refused} />
      <Calling endpoint={endpoint} />
      <Moves endpoint={endpoint} />
    </>
  );
}

/** How it went since the page was opened. */
function Course({ samples }: { readonly samples: readonly Sample[] }): JSX.Element {
  const settled = isAtRest(samples) ? samples : samples.slice(0, -1); // the newest is not final: not drawn each time
  return (
    <section aria-label="Since this page was opened">
      <h2>Since this page was opened</h2>
      {settled.length < 2 ? (
        <p className="nbm-dim">No request has come since. Plots begin with the next one.</p>
      ) : (
        <div className="nbm-Grid">
          <Plot
            label="99th percentile of the latency, by version"
            specification={course('p99 latency (ms)', latencies(settled))}
          />
          <Plot label="Requests per second, by version" specification={course('requests per second', rates(settled))} />
          <Plot label="Errors, by version" specification={course('errors', errors(settled))} />
        </div>
      )}
    </section>
  );
}

function course(title: string, points: readonly Point[]): Specification {
  const isAllZero = points.every(({ value }) => !value); // an axis without extent would put zero into its middle
  return {
    title,
    data: { values: points.map(point => ({ ...point, version: plain(point.version, 40) })) },
    mark: 'line',
    encoding: {
      x: { field: 'at', type: 'temporal', title: null, axis: { format: '%H:%M:%S', tickCount: 5 } },
      y: {
        field: 'value',
        type: 'quantitative',
        title: null,
        scale: { domainMin: 0, ...(isAllZero && { domainMax: 1 }) }
      },
      color: { field: 'version', type: 'nominal', title: null }
    }
  };
}

const REASONS: Readonly<Record<string, string>> = {
  400: 'not a request that it understands',
  401: 'no token, or a wrong one',
  404: 'no such path or model',
  405: 'a method that the path does not have',
  408: 'the body did not come in time',
  413: 'larger than it may be',
  415: 'a format that is not known',
  421: 'a public host’s name, without a token',
  422: 'columns or values that the model does not take',
  429: 'too many requests waited',
  431: 'a head that is too large',
  500: 'the model failed',
  503: 'a server was ending, or its model was away',
  504: 'not answered in time'
};

function Refused({ refused }: Pick<Endpoint, 'refused'>): JSX.Element {
  const rows = Object.entries(refused).map(([status, requests]) => ({
    status,
    requests,
    meaning: own(REASONS, status) ?? ''
  }));
  return (
    <section aria-label="Refused requests">
      <h2>Refused requests</h2>
      {rows.length ? <Card result={rows} /> : <p className="nbm-dim">None since its servers started.</p>}
    </section>
  );
}

function Calling({ endpoint }: { readonly endpoint: Endpoint }): JSX.Element {
  const { actions, folder } = usePlace();
  const score = (): void => void actions.propose('predict', { endpoint: endpoint.name }, undefined, folder);
  return (
    <section aria-label="How to call it">
      <h2>How to call it</h2>
      <pre className="nbm-Text">{plain(curl(endpoint.url), 1000)}</pre>
      <p className="nbm-dim">
        Columns are the model’s own: /openapi.json on that address names them, /docs has a form. Where the endpoint asks
        for a token, add -H &quot;Authorization: Bearer $TOKEN&quot;.
      </p>
      <div className="nbm-Buttons">
        <button className="jp-mod-styled" onClick={score}>
          Score a table …
        </button>
      </div>
    </section>
  );
}

/** A line for a terminal that asks an endpoint for one answer. Pure. */
export function curl(url: string): string {
  const body = '{"dataframe_records": [{"COLUMN": VALUE}]}';
  return `curl ${quoted(`${url}/invocations`)} -H 'Content-Type: application/json' -d '${body}'`;
}

function Moves({ endpoint }: { readonly endpoint: Endpoint }): JSX.Element {
  const { model, follows } = endpoint;
  const answer = useAnswer('history', { model }, ['ledger']);
  const alias = follows.slice(follows.lastIndexOf('@') + 1);
  return (
    <section aria-label="History of its model">
      <h2>{alias ? `History of ${plain(follows, 100)}` : `History of ${plain(model, 100)}`}</h2>
      <Answered answer={answer}>{entries => <Card result={movesOf(entries, alias)} />}</Answered>
    </section>
  );
}

/** What was done with an alias, or without one with the model, the newest first. Pure. */
export function movesOf(entries: readonly HistoryEntry[], alias: string): Readonly<Record<string, unknown>>[] {
  const isOfAlias = ({ verb, what, outcome }: HistoryEntry): boolean =>
    what.startsWith(`${alias}:`) || what.startsWith(`${alias} stays`) || (outcome !== 'ok' && MOVING.includes(verb));
  const moves = entries.filter(entry => !alias || isOfAlias(entry)).slice(0, MOST_MOVES);
  return moves.map(({ at, verb, what, actor, reason, outcome }) => ({ at, verb, what, by: actor, reason, outcome }));
}
