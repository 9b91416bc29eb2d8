/** What a person reads and does about one endpoint, in the sidebar and on its page alike. */

import * as React from 'react';

import { Arguments } from '../client';
import { Endpoint, Progress, VerbName } from '../types';
import { lasted, number, plain, words } from '../words';
import { useNow } from './clock';
import { deploymentEvidence, promotionEvidence, rollbackEvidence } from './evidence';
import { usePlace } from './place';
import { Evidence } from './proposal';
import { Figures, Pair, pairOf, Traffic } from './traffic';

/** Something to be proposed: a button's words, and the verb with its arguments. */
export interface Step {
  readonly label: string;
  readonly verb: VerbName;
  readonly args: Arguments;
}

/** What is wrong with an endpoint, in words, and what mends it. */
export interface Advice {
  readonly words: string;
  readonly step?: Step;
}

/** Say what to do about an endpoint that is not as it is wanted; undefined for one that answers. Pure. */
export function adviceOn(endpoint: Endpoint): Advice | undefined {
  const agent: Step = { label: 'Start the agent …', verb: 'agent', args: {} };
  const again: Step = { label: 'Deploy it again …', verb: 'deploy', args: deploying(endpoint) };
  switch (endpoint.status) {
    case 'answers':
      return undefined;
    case 'dead':
      return { words: 'None of its servers runs.', step: again };
    case 'silent':
      return { words: 'Its servers run, but do not answer.', step: again };
    case 'partly':
      return { words: 'One of its servers is missing; the project’s agent starts it again.', step: agent };
    case 'behind':
      return { words: 'What is wanted is not served yet; the project’s agent makes it so.', step: agent };
    case 'elsewhere':
      return { words: 'Another machine serves it, and counts there. Deploy and undeploy it on that machine.' };
    default:
      return { words: plain(endpoint.status, 60) };
  }
}

/** The way back to what was live before; undefined where there is none to go. Pure. */
export function wayBack(endpoint: Endpoint): Step | undefined {
  const { follows, name, model } = endpoint;
  const pair = pairOf(endpoint);
  if (follows) {
    return { label: 'Roll back …', verb: 'rollback', args: { model: isChampions(follows) ? model : follows } };
  }
  const weights = pair && { [pair.champion.version]: 100, [pair.challenger.version]: 0 };
  return weights && { label: 'Roll back …', verb: 'traffic', args: { endpoint: name, weights } };
}

/** The way on: the version that is tried, a shadow too, becomes what the alias points at. Pure. */
export function wayOn({ traffic, follows }: Endpoint): Step | undefined {
  const tried = traffic.find(each => each.role !== 'champion');
  const to = follows && !isChampions(follows) ? { to: follows.slice(follows.lastIndexOf('@') + 1) } : {};
  return (
    tried && {
      label: `Promote ${plain(tried.version, 20)} …`,
      verb: 'promote',
      args: { model: `${tried.model}/${tried.version}`, ...to }
    }
  );
}

/** The endpoint's rollout in words: what comes next while it goes on, how it ended otherwise. Pure. */
export function rolloutOf({ progress, rollout }: Endpoint, now = Date.now()): string {
  if (progress?.state !== 'running') {
    return rollout && `Rollout: ${plain(rollout)}`;
  }
  const { challenger, strategy, steps, step, weight, slo } = progress;
  const share = strategy === 'shadow' ? 'answering nobody' : `with ${number(weight)}\u00a0% of the requests`;
  const begun = `Rollout (${plain(words(strategy), 20)}) of ${plain(challenger, 60)}: step ${step + 1} of ${steps.length}, ${share}.`;
  return `${begun} ${onward(progress, now)}${slo && `, if ${plain(slo, 200)} holds`}.`;
}

function onward({ steps, step, bake_s, step_began_at }: Progress, now: number): string {
  const left_s = (Date.parse(step_began_at) - now) / 1000 + Number(bake_s);
  const next = step + 1 < steps.length ? `On to ${number(steps[step + 1])}\u00a0%` : 'It is done';
  return `${next} ${left_s > 0 ? `in ${lasted(left_s)} at the earliest` : 'once enough requests came'}`;
}

/** Whether a rollout goes on. Pure. */
export function isRollingOut({ progress }: Pick<Endpoint, 'progress'>): boolean {
  return progress?.state === 'running';
}

/** What is wrong with an endpoint, its own words first, and the step that mends it. */
export function Trouble({ endpoint }: { readonly endpoint: Endpoint }): JSX.Element | null {
  const { actions, folder } = usePlace();
  const advice = adviceOn(endpoint);
  const step = advice?.step;
  const evidence = step?.verb === 'deploy' ? deploymentEvidence : undefined;
  if (!advice && !endpoint.trouble) {
    return null;
  }
  return (
    <div className="nbm-Problem" role="status">
      {advice && <p>{advice.words}</p>}
      {endpoint.trouble && <p>{plain(endpoint.trouble)}</p>}
      {step && (
        <button className="jp-mod-styled" onClick={() => void actions.propose(step.verb, step.args, evidence, folder)}>
          {step.label}
        </button>
      )}
    </div>
  );
}

/** The slider, where two versions share the requests. */
export function Shares({ endpoint }: { readonly endpoint: Endpoint }): JSX.Element | null {
  const { actions, folder } = usePlace();
  const pair = pairOf(endpoint);
  const propose = (weights: Arguments): void =>
    void actions.propose('traffic', { endpoint: endpoint.name, weights }, evidenceOf(endpoint, pair), folder);
  return pair ? <Traffic pair={pair} propose={propose} /> : null;
}

/** The rollout in words, kept up with the time while it goes on. */
export function Rolling({ endpoint }: { readonly endpoint: Endpoint }): JSX.Element | null {
  const { isSeen } = usePlace();
  const now = useNow(isSeen && isRollingOut(endpoint));
  const told = rolloutOf(endpoint, now);
  return told ? <p>{told}</p> : null;
}

/** What can be done with an endpoint besides its traffic. */
export function Steps({ endpoint }: { readonly endpoint: Endpoint }): JSX.Element {
  const { actions, folder } = usePlace();
  const undeploy: Step = { label: 'Undeploy …', verb: 'undeploy', args: { endpoint: endpoint.name } };
  const steps = [wayOn(endpoint), wayBack(endpoint), undeploy].filter(step => step !== undefined);
  return (
    <div className="nbm-Buttons">
      {steps.map(({ label, verb, args }) => (
        <button
          key={verb}
          className="jp-mod-styled"
          onClick={() => void actions.propose(verb, args, evidenceFor(verb, endpoint), folder)}
        >
          {label}
        </button>
      ))}
    </div>
  );
}

/** What the versions do, and what is known of the move that is proposed. */
function evidenceFor(verb: VerbName, { traffic }: Endpoint): Evidence {
  const known = MOVES[verb];
  return (args, close) => (
    <>
      <Figures shares={traffic} />
      {known?.(args, close)}
    </>
  );
}

const MOVES: Readonly<Partial<Record<VerbName, (args: Arguments, close: () => void) => React.ReactNode>>> = {
  promote: promotionEvidence,
  rollback: rollbackEvidence
};

function evidenceOf(endpoint: Endpoint, pair: Pair | undefined): React.ReactNode {
  return (
    <>
      {pair && <Figures shares={endpoint.traffic} />}
      {isRollingOut(endpoint) && <p>A rollout goes on here. It ends when weights are set by hand.</p>}
    </>
  );
}

/** The arguments that deploy an endpoint as it is. */
function deploying({ name, model, version, follows }: Endpoint): Arguments {
  return { model: follows || `${model}/${version}`, ...(name === model ? {} : { as_: name }) };
}

function isChampions(follows: string): boolean {
  return follows.endsWith('@champion');
}
