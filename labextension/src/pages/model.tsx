/** The page of one model: its versions, what gates measured on them, what was done with it, and what can be. */

import * as React from 'react';

import { Act } from '../components/act';
import { AliasChips, useMoves, VersionButtons } from '../components/alias';
import { Answered, Empty, Loading, Problem, useAnswer } from '../components/answer';
import { Chip } from '../components/chip';
import { failures, GateBadge, Report } from '../components/gate';
import { RunLink } from '../components/link';
import { usePlace } from '../components/place';
import { Plot, Specification } from '../components/plot';
import { Table } from '../components/table';
import { Measured, measured, useModels, useReports, useVersions } from '../components/versions';
import { GateReport, HistoryEntry, ListedVersion, RegisteredModel } from '../types';
import { ago, number, plain, time } from '../words';
import { PageProps } from '.';

const MOST_PLOTS = 6;

export function ModelPage({ names }: PageProps): JSX.Element {
  const { actions, folder } = usePlace();
  const answer = useModels();
  return (
    <article>
      <h1>{plain(names[0] ?? '', 100)}</h1>
      <Answered answer={answer}>
        {models => {
          const model = models.find(each => each.name === names[0]);
          return model ? (
            <Shown model={model} />
          ) : (
            <Empty
              step={() => void actions.propose('register', { name: names[0] ?? '' }, undefined, folder)}
              label="Register a model …"
            >
              There is no model of this name yet.
            </Empty>
          );
        }}
      </Answered>
    </article>
  );
}

function Shown({ model }: { readonly model: RegisteredModel }): JSX.Element {
  const answer = useVersions(model);
  return (
    <>
      <Buttons model={model} />
      <h2>Versions</h2>
      <Answered answer={answer}>
        {versions => (
          <>
            <Versions versions={versions} />
            <Judged name={model.name} versions={versions} />
          </>
        )}
      </Answered>
      <h2>History</h2>
      <History name={model.name} />
    </>
  );
}

/** What can be done with the model as a whole: its newest version is meant where one has to be. */
function Buttons({ model }: { readonly model: RegisteredModel }): JSX.Element {
  const moves = useMoves();
  const { name, version, aliases } = model;
  const isThere = moves.alias in aliases;
  const [newest, alias] = [`version ${plain(version, 20)}`, plain(moves.alias, 30)];
  return (
    <div className="nbm-Buttons">
      {version !== '' && aliases[moves.alias] !== version && (
        <Act words={`Promote ${newest} …`} about={`to ${alias}`} act={() => moves.promote(`${name}/${version}`)} />
      )}
      {isThere && <Act words={`Roll back ${alias} …`} about={name} act={() => moves.rollBack(name)} />}
      {version !== '' && (
        <Act words={`Validate ${newest} …`} about={name} act={() => moves.validate(`${name}/${version}`)} />
      )}
      {isThere && <Act words={`Deploy ${alias} …`} about={name} act={() => moves.deploy(`${name}@${moves.alias}`)} />}
    </div>
  );
}

function Versions({ versions }: { readonly versions: readonly ListedVersion[] }): JSX.Element {
  return (
    <Table
      label="Versions, the newest first"
      headings={['version', 'aliases', 'gate', 'registered', 'run', 'steps']}
      rows={versions}
      row={version => <VersionRow key={version.version} version={version} />}
    />
  );
}

function VersionRow({ version }: { readonly version: ListedVersion }): JSX.Element {
  const { run_id, registered_at } = version;
  return (
    <tr>
      <th scope="row">{plain(version.version, 20)}</th>
      <td>
        <span className="nbm-Chips">
          <AliasChips aliases={version.aliases} />
        </span>
      </td>
      <td>
        <GateBadge gate={version.gate} />
        {version.judged_by && <span className="nbm-dim"> {judgement(version)}</span>}
      </td>
      <td className="nbm-Short" title={registered_at ? time(registered_at) : undefined}>
        {ago(registered_at)}
      </td>
      <td className="nbm-Short">
        <RunLink id={run_id} />
      </td>
      <td className="nbm-Short">
        <VersionButtons version={version} />
      </td>
    </tr>
  );
}

/** Word which gate judged a version, and how many checks failed. Pure. */
export function judgement(version: ListedVersion, now = Date.now()): string {
  const failed = failures(version);
  return `in ${plain(version.judged_by, 40)}, ${ago(version.judged_at, now)}${failed && `, ${failed}`}`;
}

interface JudgedProps {
  readonly name: string;
  readonly versions: readonly ListedVersion[];
}

function Judged({ name, versions }: JudgedProps): JSX.Element {
  const { reports, error } = useReports(name, versions);
  const points = measured(reports, versions);
  const metrics = [...new Set(points.map(each => each.metric))].slice(0, MOST_PLOTS);
  const newest = newestJudged(versions);
  const { alias } = useMoves();
  return (
    <>
      {metrics.length > 0 && <h2>What gates measured</h2>}
      <div className="nbm-Grid">
        {metrics.map(metric => (
          <Plot key={metric} label={described(metric, points)} specification={plot(metric, points, alias)} />
        ))}
      </div>
      {newest !== undefined && (
        <>
          <h2>The newest gate report</h2>
          {error && <Problem error={error} />}
          <Newest reports={reports.get(newest.version) ?? []} gate={newest.judged_by} isAsked={!error} />
        </>
      )}
    </>
  );
}

interface NewestProps {
  readonly reports: readonly GateReport[];
  readonly gate: string;
  readonly isAsked: boolean;
}

function Newest({ reports, gate, isAsked }: NewestProps): JSX.Element | null {
  const report = reports.find(each => each.gate === gate);
  return report ? <Report report={report} /> : isAsked ? <Loading /> : null;
}

/** Find the version that was judged last. Pure. */
export function newestJudged(versions: readonly ListedVersion[]): ListedVersion | undefined {
  const judged = versions.filter(each => each.judged_at !== null);
  return judged.reduce<ListedVersion | undefined>(
    (newest, each) => (newest && newest.judged_at! >= each.judged_at! ? newest : each),
    undefined
  );
}

/** Tell in words what a plot shows. Pure. */
export function described(metric: string, points: readonly Measured[]): string {
  const told = points
    .filter(each => each.metric === metric)
    .map(({ version, value, aliases }) => `${plain(version, 20)} ${number(value)}${inBrackets(aliases)}`);
  return `${plain(metric, 60)} of each version: ${plain(told.join(', '))}`;
}

function inBrackets(aliases: readonly string[]): string {
  return aliases.length ? ` (${plain(aliases.join(', '), 60)})` : '';
}

/** A metric from version to version; the one that the alias points at stands out by its shape and by its name. Pure. */
export function plot(metric: string, points: readonly Measured[], alias: string): Specification {
  const values = points
    .filter(each => each.metric === metric)
    .map(({ version, value, aliases }) => ({
      version: plain(version, 20),
      value: typeof value === 'number' ? value : null,
      aliases: plain(aliases.join(', '), 60),
      marked: aliases.includes(alias)
    }));
  const marked = { field: 'marked', type: 'nominal', legend: null };
  const domain = [false, true];
  return {
    title: plain(metric, 60),
    data: { values },
    encoding: {
      x: { field: 'version', type: 'ordinal', title: 'version', sort: null, axis: { labelAngle: 0 } },
      y: { field: 'value', type: 'quantitative', title: null, scale: { zero: false, padding: 16 } }
    },
    layer: [
      { mark: { type: 'line', opacity: 0.5 } },
      {
        mark: { type: 'point', filled: true, opacity: 1 },
        encoding: {
          shape: { ...marked, scale: { domain, range: ['circle', 'diamond'] } },
          size: { ...marked, type: 'ordinal', scale: { domain, range: [40, 160] } }
        }
      },
      { mark: { type: 'text', dy: -14, color: 'currentColor' }, encoding: { text: { field: 'aliases' } } }
    ]
  };
}

function History({ name }: { readonly name: string }): JSX.Element {
  const answer = useAnswer('history', { model: name }, ['ledger']);
  return <Answered answer={answer}>{entries => <Entries entries={entries} />}</Answered>;
}

function Entries({ entries }: { readonly entries: readonly HistoryEntry[] }): JSX.Element {
  return entries.length === 0 ? (
    <p className="nbm-dim">Nothing was done with it through nbmlops yet.</p>
  ) : (
    <Table
      label="History, the newest first"
      headings={['when', 'who', 'from', 'verb', 'version', 'outcome', 'what', 'reason']}
      rows={entries}
      row={entry => <EntryRow key={entry.event} entry={entry} />}
    />
  );
}

function EntryRow({ entry }: { readonly entry: HistoryEntry }): JSX.Element {
  return (
    <tr>
      <td className="nbm-Short" title={time(entry.at)}>
        {ago(entry.at)}
      </td>
      <td>{plain(entry.actor, 60)}</td>
      <td>{plain(entry.surface, 20)}</td>
      <td>{plain(entry.verb, 20)}</td>
      <td>{plain(entry.version, 20)}</td>
      <td>{entry.outcome === 'ok' ? <Chip word="ok" /> : <Chip word={entry.outcome} tone="bad" />}</td>
      <td>{plain(entry.what)}</td>
      <td>{plain(entry.reason)}</td>
    </tr>
  );
}
