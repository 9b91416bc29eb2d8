/** Registered models with their newest versions: what points at them, what their gates said, the next steps. */

import { Button, caretDownIcon, caretRightIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { AliasChips, VersionButtons } from '../components/alias';
import { Answered, Empty } from '../components/answer';
import { failures, GateBadge } from '../components/gate';
import { PageLink } from '../components/link';
import { usePlace } from '../components/place';
import { foremost, useModels, useVersions } from '../components/versions';
import { ListedVersion, RegisteredModel } from '../types';
import { ago, number, plain } from '../words';

const N_VERSIONS = 3; // the newest of a model that are shown here
const N_OPEN = 3; // models whose versions are shown at first
const N_FIND = 8; // from how many models on a person may want to search
const MOST_MODELS = 100;

export function ModelsView(): JSX.Element {
  const { actions, folder } = usePlace();
  const answer = useModels();
  return (
    <Answered answer={answer}>
      {models =>
        models.length ? (
          <Models models={models} />
        ) : (
          <Empty step={() => void actions.propose('register', {}, undefined, folder)} label="Register a model …">
            No models yet. A model that a run has logged becomes version 1 of a name.
          </Empty>
        )
      }
    </Answered>
  );
}

function Models({ models }: { readonly models: readonly RegisteredModel[] }): JSX.Element {
  const [sought, setSought] = React.useState('');
  const found = models.filter(each => each.name.toLowerCase().includes(sought.toLowerCase()));
  return (
    <>
      {models.length > N_FIND && (
        <div className="nbm-Tools">
          <input
            className="jp-mod-styled nbm-Find"
            type="search"
            aria-label="Find a model"
            placeholder={`Find one of ${number(models.length)} models`}
            value={sought}
            onChange={event => setSought(event.target.value)}
          />
        </div>
      )}
      <ul className="nbm-Models" aria-label="Models">
        {found.slice(0, MOST_MODELS).map(model => (
          <Model key={model.name} model={model} isOpenAtFirst={models.indexOf(model) < N_OPEN} />
        ))}
      </ul>
      {found.length === 0 && <p className="nbm-Empty">No model has “{plain(sought, 60)}” in its name.</p>}
      {found.length > MOST_MODELS && (
        <p className="nbm-Empty">{number(found.length - MOST_MODELS)} more: find them by their names.</p>
      )}
    </>
  );
}

interface ModelProps {
  readonly model: RegisteredModel;
  readonly isOpenAtFirst: boolean;
}

function Model({ model, isOpenAtFirst }: ModelProps): JSX.Element {
  const { actions, folder } = usePlace();
  const [isOpen, setOpen] = React.useState(isOpenAtFirst);
  const name = plain(model.name, 80);
  const open = (): void => actions.openPage({ kind: 'model', names: [model.name] }, folder);
  const Caret = isOpen ? caretDownIcon : caretRightIcon;
  return (
    <li>
      <div className="nbm-Model-head">
        <Button minimal aria-expanded={isOpen} aria-label={`Versions of ${name}`} onClick={() => setOpen(!isOpen)}>
          <Caret.react tag="span" width="16px" />
        </Button>
        <PageLink kind="model" name={model.name} />
        {!isOpen && <AliasChips aliases={pointed(model.aliases)} />}
      </div>
      {isOpen && <Versions model={model} openPage={open} />}
    </li>
  );
}

interface VersionsProps {
  readonly model: RegisteredModel;
  readonly openPage: () => void;
}

function Versions({ model, openPage }: VersionsProps): JSX.Element {
  const answer = useVersions(model);
  return (
    <Answered answer={answer}>
      {versions => {
        const shown = foremost(versions, N_VERSIONS);
        return (
          <>
            <ul className="nbm-Versions" aria-label={`Versions of ${plain(model.name, 80)}, the newest first`}>
              {shown.map(version => (
                <Version key={version.version} version={version} />
              ))}
            </ul>
            {shown.length < versions.length && (
              <button className="nbm-Link nbm-All" onClick={openPage}>
                All {number(versions.length)} versions
              </button>
            )}
          </>
        );
      }}
    </Answered>
  );
}

function Version({ version }: { readonly version: ListedVersion }): JSX.Element {
  return (
    <li>
      <div className="nbm-Version-line">
        <strong>Version {plain(version.version, 20)}</strong>
        <AliasChips aliases={version.aliases} />
      </div>
      <div className="nbm-Version-line nbm-dim">
        <GateBadge gate={version.gate} />
        <span title={failures(version) || undefined}>{ago(version.registered_at)}</span>
      </div>
      <VersionButtons version={version} />
    </li>
  );
}

/** Name aliases with the versions that they point at, the champion first. Pure. */
export function pointed(aliases: RegisteredModel['aliases']): string[] {
  const names = Object.keys(aliases).sort();
  const first = names.filter(each => each === 'champion');
  return [...first, ...names.filter(each => each !== 'champion')].map(each => `${each} ${aliases[each]}`);
}
