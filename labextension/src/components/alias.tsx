/** Aliases as chips, and the buttons by which they are moved. */

import * as React from 'react';

import { ListedVersion } from '../types';
import { Act } from './act';
import { Chip } from './chip';
import { deploymentEvidence, promotionEvidence, rollbackEvidence } from './evidence';
import { usePlace } from './place';

const MOST_CHIPS = 12;

/** Aliases, each told in a chip. */
export function AliasChips({ aliases }: { readonly aliases: readonly string[] }): JSX.Element {
  return (
    <>
      {aliases.slice(0, MOST_CHIPS).map(alias => (
        <Chip key={alias} word={alias} tone={/^champion\b/.test(alias) ? 'best' : 'plain'} />
      ))}
      {aliases.length > MOST_CHIPS && <span className="nbm-dim">and {aliases.length - MOST_CHIPS} more</span>}
    </>
  );
}

/** What can be done with models; each is proposed with its evidence, nothing is done at once. */
export interface Moves {
  /** The alias that is moved where none is named. */
  readonly alias: string;
  readonly promote: (reference: string) => void;
  readonly rollBack: (name: string) => void;
  readonly validate: (reference: string) => void;
  readonly deploy: (reference: string) => void;
}

/** Use the moves of the place where a view stands. */
export function useMoves(): Moves {
  const { actions, folder } = usePlace();
  const alias = actions.defaultAlias;
  return {
    alias,
    promote: model => void actions.propose('promote', { model, to: alias, reason: '' }, promotionEvidence, folder),
    rollBack: name =>
      void actions.propose('rollback', { model: `${name}@${alias}`, reason: '' }, rollbackEvidence, folder),
    validate: model => void actions.propose('validate', { model }, undefined, folder),
    deploy: model => void actions.propose('deploy', { model }, deploymentEvidence, folder)
  };
}

/** What can be done with one version: first what is most likely the next step. */
export function VersionButtons({ version }: { readonly version: ListedVersion }): JSX.Element {
  const moves = useMoves();
  const reference = `${version.name}/${version.version}`;
  const isThere = version.aliases.includes(moves.alias);
  const move = isThere ? (
    <Act words="Roll back …" about={`${moves.alias} of ${version.name}`} act={() => moves.rollBack(version.name)} />
  ) : (
    <Act words="Promote …" about={`${reference} to ${moves.alias}`} act={() => moves.promote(reference)} />
  );
  const validate = <Act words="Validate …" about={reference} act={() => moves.validate(reference)} />;
  return (
    <div className="nbm-Acts">
      {version.gate === 'passed' || isThere ? move : validate}
      {version.gate === 'passed' || isThere ? validate : move}
      <Act words="Deploy …" about={reference} act={() => moves.deploy(reference)} />
    </div>
  );
}
