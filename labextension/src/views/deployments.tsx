/** What answers over HTTP: each endpoint with its versions, how they do, and how they share the requests. */

import * as React from 'react';

import { Answered, Empty, useAnswer } from '../components/answer';
import { Chip } from '../components/chip';
import { Rolling, Shares, Steps, Trouble } from '../components/endpoint';
import { deploymentEvidence } from '../components/evidence';
import { PageLink } from '../components/link';
import { usePlace } from '../components/place';
import { Figures } from '../components/traffic';
import { Endpoint, RegisteredModel } from '../types';
import { ago, plain } from '../words';

export function DeploymentsView(): JSX.Element {
  const answer = useAnswer('endpoints', {}, ['endpoints', 'ledger']);
  return (
    <Answered answer={answer}>
      {endpoints => (endpoints.length ? <Listed endpoints={endpoints} /> : <Nothing />)}
    </Answered>
  );
}

function Listed({ endpoints }: { readonly endpoints: readonly Endpoint[] }): JSX.Element {
  return (
    <ul className="nbm-Endpoints" aria-label="Endpoints">
      {worstFirst(endpoints).map(endpoint => (
        <li key={endpoint.name}>
          <Deployed endpoint={endpoint} />
        </li>
      ))}
    </ul>
  );
}

function Deployed({ endpoint }: { readonly endpoint: Endpoint }): JSX.Element {
  const { name, model, version, follows, since, status, traffic } = endpoint;
  return (
    <>
      <div className="nbm-Row-line">
        <PageLink kind="endpoint" name={name} />
        <Chip word={plain(status, 20)} />
      </div>
      <div className="nbm-dim">
        {plain(follows || `${model}/${version}`, 100)}, {ago(since)}
      </div>
      <Trouble endpoint={endpoint} />
      <Rolling endpoint={endpoint} />
      <Figures shares={traffic} />
      <Shares endpoint={endpoint} />
      <Steps endpoint={endpoint} />
    </>
  );
}

/** Nothing is deployed: a champion can be; without one there is a model to choose first. */
function Nothing(): JSX.Element {
  const { actions } = usePlace();
  const answer = useAnswer('models', {}, ['ledger', 'runs']);
  return (
    <Answered answer={answer}>
      {models => <FirstStep model={withAlias(models as readonly RegisteredModel[], actions.defaultAlias)} />}
    </Answered>
  );
}

function FirstStep({ model }: { readonly model: string | undefined }): JSX.Element {
  const { actions, folder } = usePlace();
  const alias = actions.defaultAlias;
  const args = { model: alias === 'champion' ? model : `${model}@${alias}` };
  return model === undefined ? (
    <Empty step={() => actions.openView('models')} label="Show the models">
      Nothing is deployed, and no model is the {plain(alias, 60)} yet. Promote one first.
    </Empty>
  ) : (
    <Empty step={() => void actions.propose('deploy', args, deploymentEvidence, folder)} label="Deploy it …">
      Nothing is deployed yet. {plain(`${model}@${alias}`, 100)} can be, and then answers over HTTP.
    </Empty>
  );
}

/** Name the first model of which an alias points at a version; undefined where there is none. Pure. */
export function withAlias(models: readonly RegisteredModel[], alias: string): string | undefined {
  return models.find(each => each.aliases[alias])?.name;
}

/** Order endpoints: those that need a person first, then by name. Pure. */
export function worstFirst(endpoints: readonly Endpoint[]): Endpoint[] {
  const calm = ({ status, trouble }: Endpoint): number => Number(status === 'answers' && !trouble);
  return [...endpoints].sort((a, b) => calm(a) - calm(b) || a.name.localeCompare(b.name));
}
