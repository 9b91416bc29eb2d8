/** What is known of a model's versions and of the gates that judged them. Pure, apart from the questions. */

import * as React from 'react';

import { Float, GateReport, HistoryEntry, ListedVersion, RegisteredModel, VersionCard } from '../types';
import { Unreachable } from '../client';
import { Change } from '../model';
import { repeated } from '../repeated';
import { Answer, useAnswer } from './answer';
import { usePlace } from './place';

/** One metric of one version, as a gate measured it. */
export interface Measured {
  readonly metric: string;
  readonly version: string;
  readonly value: Float;
  readonly aliases: readonly string[];
}

type Reports = ReadonlyMap<string, readonly GateReport[]>;

const MOVES = ['register', 'promote', 'rollback'];
const MOST_JUDGED = 20; // versions whose reports are compared

/** List all models, again when one of them or an alias has changed, also where another tool did it. */
export function useModels(): Answer<readonly RegisteredModel[]> {
  return useAnswer('models', {}, ['ledger', 'runs']) as Answer<readonly RegisteredModel[]>;
}

/** List a model's versions; a kernel that logs metrics does not make it ask, as the model's own row tells of moves. */
export function useVersions(model: RegisteredModel): Answer<readonly ListedVersion[]> {
  const { value, error } = useAnswer('models', { name: model.name }, ['ledger']);
  return { value: value && upToDate(value as readonly ListedVersion[], model), error };
}

/** Gate reports by version, and why one of them is missing. */
export interface Judgements {
  readonly reports: Reports;
  readonly error: Error | undefined;
}

/** Have the gate reports of the newest versions that were judged; each is asked for until it is known. */
export function useReports(name: string, versions: readonly ListedVersion[]): Judgements {
  const { model, folder } = usePlace();
  const root = model.project(folder)?.root;
  const [known, setKnown] = React.useState<Reports>(new Map());
  const [error, setError] = React.useState<Error>();
  const judged = versions.filter(each => each.gate !== '').slice(0, MOST_JUDGED);
  const wanted = JSON.stringify(judged.map(each => [each.version, `${each.version} ${each.judged_at}`]));
  React.useEffect(() => {
    const left = new Set((JSON.parse(wanted) as [string, string][]).filter(([, key]) => !known.has(key)));
    let isOver = false;
    const asking = repeated(async () => {
      let problem: Error | undefined;
      for (const each of left) {
        const [version, key] = each;
        try {
          const { reports } = (await model.perform('show', { what: `${name}/${version}` }, folder)) as VersionCard;
          left.delete(each);
          isOver || setKnown(before => new Map(before).set(key, reports));
        } catch (refused) {
          problem = refused as Error;
        }
        if (isOver || problem instanceof Unreachable) {
          break;
        }
      }
      isOver || setError(problem);
    });
    const hear = (_: unknown, change: Change): void => {
      change.root === root && change.topics.has('ledger') && left.size && asking.again();
    };
    model.told.connect(hear);
    left.size && asking.again();
    return () => {
      isOver = true;
      model.told.disconnect(hear);
      asking.end();
    };
  }, [model, folder, root, name, wanted]);
  const reports = new Map(judged.map(each => [each.version, known.get(`${each.version} ${each.judged_at}`) ?? []]));
  return { reports, error };
}

/** Bring a listing of versions to where its model's aliases are now, and what another tool has registered. Pure. */
export function upToDate(versions: readonly ListedVersion[], model: RegisteredModel): ListedVersion[] {
  const isKnown = model.version === '' || versions.some(each => each.version === model.version);
  const unknown = { gate: '', judged_by: '', judged_at: null, n_failed: 0, run_id: '', aliases: [] };
  const newest = { ...unknown, name: model.name, version: model.version, registered_at: model.updated_at };
  return [...(isKnown ? [] : [newest]), ...versions].map(each => ({
    ...each,
    aliases: aliasesOf(model.aliases, each.version)
  }));
}

/** Name the aliases that point at a version. Pure. */
export function aliasesOf(aliases: RegisteredModel['aliases'], version: string): string[] {
  return Object.keys(aliases)
    .filter(alias => aliases[alias] === version)
    .sort();
}

/** Pick the versions that a person looks for first: the newest, and those that an alias points at. Pure. */
export function foremost(versions: readonly ListedVersion[], n: number): ListedVersion[] {
  return versions.filter((each, place) => place < n || each.aliases.length > 0);
}

/** Spell a reference as promote and validate mean it: a name alone is its challenger. Pure. */
export function meant(model: string): string {
  return /[/@]/.test(model) ? model : `${model}@challenger`;
}

/** Find who moved an alias last; undefined where nobody did through nbmlops. Pure. */
export function lastMove(history: readonly HistoryEntry[], alias: string): HistoryEntry | undefined {
  return history.find(
    ({ outcome, verb, what }) => outcome === 'ok' && MOVES.includes(verb) && what.startsWith(`${alias}: `)
  );
}

/** Read what gates measured, oldest version first; a metric is told apart by its gate where there are several. Pure. */
export function measured(reports: Reports, versions: readonly ListedVersion[]): Measured[] {
  const gates = new Set([...reports.values()].flat().map(each => each.gate));
  return [...versions].reverse().flatMap(({ version, aliases }) =>
    (reports.get(version) ?? []).flatMap(({ gate, checks }) => {
      const values = new Map(checks.map(check => [check.name, check.value]));
      return [...values].map(([name, value]) => {
        const metric = gates.size > 1 ? `${name} (gate ${gate})` : name;
        return { metric, version, value, aliases };
      });
    })
  );
}
