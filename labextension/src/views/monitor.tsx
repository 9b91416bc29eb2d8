/** How far tables and live traffic have drifted, the worst columns first; and who is told of it. */

import * as React from 'react';

import { Answer, Answered, Empty, Problem, useAnswer } from '../components/answer';
import { Chip } from '../components/chip';
import { PageLink } from '../components/link';
import { usePlace } from '../components/place';
import { Sparkline } from '../components/sparkline';
import { nUntested, ranked, verdict, worstFirst } from '../drift';
import { AlertRow, ColumnDrift, DriftEntry } from '../types';
import { ago, ahead, number, plain } from '../words';

const MOST_COLUMNS = 5; // of each report in the sidebar; its page has all

export function MonitorView(): JSX.Element {
  const { actions, folder } = usePlace();
  const reports = useReports();
  const endpoints = useAnswer('endpoints', {}, ['ledger']);
  const measurable = endpoints.value?.map(({ name }) => name) ?? [];
  const measure = (current?: string): void =>
    void actions.propose('drift', current === undefined ? {} : { current }, undefined, folder);
  const first = measurable[0];
  return (
    <div className="nbm-Monitor">
      <Answered answer={reports}>
        {listed =>
          listed.length ? (
            <>
              <div className="nbm-Tools">
                <button className="jp-mod-styled" onClick={() => measure()}>
                  Measure drift …
                </button>
              </div>
              <ul className="nbm-Reports" aria-label="Drift reports">
                {worstFirst(listed).map(report => (
                  <li key={report.event}>
                    <Row report={report} again={measurable.includes(report.current) ? measure : undefined} />
                  </li>
                ))}
              </ul>
            </>
          ) : (
            <Empty step={() => measure(first)} label="Measure drift …">
              No drift has been measured. It compares a table, or an endpoint’s live traffic, with what a model learned
              from.
            </Empty>
          )
        }
      </Answered>
      <Alerts />
    </div>
  );
}

/** The newest drift report about each table and endpoint. */
export function useReports(): Answer<readonly DriftEntry[]> {
  const { value, error } = useAnswer('drift', {}, ['ledger']);
  return { value: value as readonly DriftEntry[] | undefined, error };
}

interface RowProps {
  readonly report: DriftEntry;
  /** Propose to judge it once more; undefined where its name alone does not say where it is. */
  readonly again: ((name: string) => void) | undefined;
}

function Row({ report, again }: RowProps): JSX.Element {
  const { current: name, drifted, columns, reference, at } = report;
  const shown = ranked(columns)
    .filter(column => column.drifted)
    .slice(0, MOST_COLUMNS);
  return (
    <>
      <div className="nbm-Row-line">
        <PageLink kind="monitor" name={name} />
        <Verdict drifted={drifted} />
      </div>
      <div className="nbm-dim">
        {verdict(report)}, {ago(at)}
      </div>
      <div className="nbm-dim">against {plain(reference, 100)}</div>
      {shown.length > 0 && (
        <ol className="nbm-Columns" aria-label={`Columns of ${plain(name, 60)}, the worst first`}>
          {shown.map(column => (
            <Column key={column.name} column={column} lately={report.curves[column.name]} />
          ))}
        </ol>
      )}
      {report.n_drifted > shown.length && (
        <div className="nbm-dim">{report.n_drifted - shown.length} more on its page</div>
      )}
      {nUntested(report) > 0 && <div className="nbm-dim">{nUntested(report)} had too few values to tell</div>}
      {again && (
        <div className="nbm-Buttons">
          <button className="jp-mod-styled" onClick={() => again(name)}>
            Measure again …
          </button>
        </div>
      )}
    </>
  );
}

/** A report's verdict as a chip. */
export function Verdict({ drifted }: Pick<DriftEntry, 'drifted'>): JSX.Element {
  return drifted ? <Chip word="drifted" /> : <Chip word="no drift" tone="good" />;
}

interface ColumnProps {
  readonly column: ColumnDrift;
  readonly lately: DriftEntry['curves'][string] | undefined;
}

function Column({ column, lately }: ColumnProps): JSX.Element {
  const name = plain(column.name, 60);
  return (
    <li title={moved(column)}>
      <span>{name}</span>
      {lately && <Sparkline values={lately} label={`effect on ${name}, report by report`} />}
      <span role="img" aria-label={`effect ${number(column.statistic)}`}>
        {number(rounded(column.statistic))}
      </span>
    </li>
  );
}

/** Word from what to what a column has moved: `mean 46.6 → 70.4`. Pure. */
export function moved({ summary, reference, current }: ColumnDrift): string {
  return summary && `${plain(summary, 60)} ${told(reference)} → ${told(current)}`;
}

function told(value: ColumnDrift['current']): string {
  return plain(number(value), 60) || 'none';
}

/** Round to two significant digits: more of an effect says nothing. Pure. */
export function rounded(value: ColumnDrift['statistic']): ColumnDrift['statistic'] {
  return typeof value === 'number' ? Number(value.toPrecision(2)) : value;
}

/** Who is told of drift, broken limits and failed jobs. */
function Alerts(): JSX.Element {
  const { actions, folder } = usePlace();
  const { value, error } = useAnswer('alert', {}, ['ledger', 'policy']);
  const alerts = value as readonly AlertRow[] | undefined;
  return (
    <section aria-label="Alerts" className="nbm-Alerts">
      <h3>Alerts</h3>
      {error && <Problem error={error} isStale={alerts !== undefined} />}
      {alerts?.length === 0 && <p className="nbm-dim">Nobody is told of drift, broken limits or failed jobs.</p>}
      <ul aria-label="Alerts">
        {alerts?.map(alert => (
          <li key={alert.name}>
            <Alert alert={alert} />
          </li>
        ))}
      </ul>
      {alerts && (
        <button
          className="jp-mod-styled"
          onClick={() => void actions.propose('alert', { on: 'slo,drift,job' }, undefined, folder)}
        >
          Alert …
        </button>
      )}
    </section>
  );
}

function Alert({ alert }: { readonly alert: AlertRow }): JSX.Element {
  const { actions, folder } = usePlace();
  const { name, on, muted_until, problem, waiting, last } = alert;
  const isMuted = muted_until !== null && Date.parse(muted_until) > Date.now();
  return (
    <>
      <div className="nbm-Row-line">
        <button className="nbm-Link" onClick={() => void actions.propose('alert', { name }, undefined, folder)}>
          {plain(name, 60)}
        </button>
        <span className="nbm-dim">{plain(on.join(', '), 60)}</span>
        {isMuted && <Chip word="muted" />}
        {problem && <Chip word="problem" tone="bad" />}
      </div>
      {isMuted && <div className="nbm-dim">tells again {ahead(muted_until)}</div>}
      {problem && <div className="nbm-Alert-problem">{plain(problem)}</div>}
      {waiting > 0 && <div className="nbm-dim">{waiting} not told yet</div>}
      {last && <div className="nbm-dim">{plain(last)}</div>}
    </>
  );
}
