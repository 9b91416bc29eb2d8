/** Names that may be meant by an argument: what the project has of the kind that it names. */

import * as React from 'react';

import { Endpoint, Job, RegisteredModel, Run, VerbName, VerbSchema } from '../types';
import { plain } from '../words';
import { usePlace } from './place';

interface Source {
  readonly verb: VerbName;
  readonly names: (rows: never) => readonly string[];
}

const models: Source = { verb: 'models', names: (rows: readonly RegisteredModel[]) => rows.flatMap(references) };
const SOURCES: Readonly<Record<string, Source>> = {
  model: models,
  'model name': { verb: 'models', names: (rows: readonly RegisteredModel[]) => rows.map(each => each.name) },
  alias: {
    verb: 'models',
    names: (rows: readonly RegisteredModel[]) => rows.flatMap(each => Object.keys(each.aliases))
  },
  endpoint: { verb: 'endpoints', names: (rows: readonly Endpoint[]) => rows.map(each => each.name) },
  run: { verb: 'runs', names: (rows: readonly Run[]) => rows.map(each => each.run_id.slice(0, 8)) },
  job: { verb: 'jobs', names: (rows: readonly Job[]) => rows.filter(each => each.kind === 'job').map(each => each.job) }
};

/** How a model's versions may be named. Pure. */
export function references({ name, version, aliases }: RegisteredModel): string[] {
  return [...Object.keys(aliases).map(alias => `${name}@${alias}`), `${name}/${version}`];
}

/** Ask for the names that a verb's arguments may mean; until they are known there are none. */
export function useKnown(schema: VerbSchema): (noun: string) => readonly string[] {
  const { model, folder } = usePlace();
  const [names, setNames] = React.useState<Readonly<Record<string, readonly string[]>>>({});
  React.useEffect(() => {
    const nouns = new Set(Object.values(schema.arguments.properties).map(each => each.names ?? ''));
    for (const noun of [...nouns].filter(each => each in SOURCES)) {
      const { verb, names: read } = SOURCES[noun];
      model.perform(verb, {}, folder).then(
        rows => setNames(before => ({ ...before, [noun]: [...new Set(read(rows as never))].map(each => plain(each)) })),
        () => undefined // offered names are a help; that there are none is told when the verb is performed
      );
    }
  }, [model, folder, schema]);
  return noun => names[noun] ?? [];
}
