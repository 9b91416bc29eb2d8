/** What speaks for moving an alias or serving a version, and against it: shown before a person decides. */

import { Button } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Arguments, Refusal } from '../client';
import { HistoryEntry, Promotion, Rollback, VersionCard } from '../types';
import { ago, plain } from '../words';
import { Answer, Answered, useAnswer } from './answer';
import { useSettled } from './clock';
import { Report } from './gate';
import { usePlace } from './place';
import { lastMove, meant, useModels } from './versions';

/** Evidence for a promotion: what the gates found, where the alias is, and whether it would be moved. */
export function promotionEvidence(args: Arguments, close: () => void): React.ReactNode {
  return <PromotionEvidence model={text(args.model)} to={text(args.to)} gate={text(args.gate)} close={close} />;
}

/** Evidence for a rollback: where it leads, and who moved the alias last. */
export function rollbackEvidence(args: Arguments): React.ReactNode {
  return <RollbackEvidence model={text(args.model)} />;
}

/** Evidence for a deployment: what the gates found. */
export function deploymentEvidence(args: Arguments, close: () => void): React.ReactNode {
  const model = text(args.model);
  return (
    <Evidence>
      <Reports
        reference={/[/@]/.test(model) ? model : `${model}@champion`}
        unproven={card => (
          <Unproven model={`${card.model}/${card.version}`} close={close}>
            {unproven(card)}
          </Unproven>
        )}
      />
    </Evidence>
  );
}

interface PromotionEvidenceProps {
  readonly model: string;
  readonly to: string;
  readonly gate: string;
  readonly close: () => void;
}

function PromotionEvidence({ close, ...given }: PromotionEvidenceProps): JSX.Element {
  const { model, to, gate } = useSettled(given);
  const asked = { model, dry_run: true, ...(to && { to }), ...(gate && { gate }) };
  const trial = useAnswer('promote', asked, ['ledger']);
  const models = useModels();
  const isUnproven = trial.error instanceof Refusal && trial.error.name === 'GateError';
  const name = model.split(/[/@]/)[0];
  const known = models.value?.find(each => each.name === name);
  return (
    <Evidence>
      {known && <p>{pointing(to || 'champion', known.aliases[to || 'champion'])}</p>}
      {isUnproven ? (
        <Unproven model={model} gate={gate} close={close}>
          {plain(trial.error?.message ?? '')}
        </Unproven>
      ) : (
        <Answered answer={trial}>{promotion => <p>{promoted(promotion)}</p>}</Answered>
      )}
      <Reports reference={meant(model)} />
    </Evidence>
  );
}

function RollbackEvidence(given: { readonly model: string }): JSX.Element {
  const { model } = useSettled(given);
  const [name, alias = 'champion'] = model.split('@');
  const trial = useAnswer('rollback', { model, dry_run: true }, ['ledger']);
  const history = useAnswer('history', { model: name }, ['ledger']);
  const models = useModels();
  const current = models.value?.find(each => each.name === name)?.aliases[alias];
  return (
    <Evidence>
      {models.value && <p>{pointing(alias, current)}</p>}
      {models.value && history.value && <p>{moved(lastMove(history.value, alias), current)}</p>}
      <Answered answer={trial}>
        {rollback => (
          <>
            <p>{rolledBack(rollback)}</p>
            <Reports reference={`${name}/${rollback.version}`} unproven={card => <p>{unproven(card)}</p>} />
          </>
        )}
      </Answered>
    </Evidence>
  );
}

/** Say where an alias is now. Pure. */
export function pointing(alias: string, version: string | undefined): string {
  return `The alias ${plain(alias, 60)} points at ${version ? `version ${plain(version, 20)}` : 'no version yet'}.`;
}

/** Say what a promotion would do. Pure. */
export function promoted({ alias, previous, version, moved: isMoved, evidence }: Promotion): string {
  const [name, to] = [plain(alias, 60), plain(version, 20)];
  if (!isMoved) {
    return `${name} is version ${to} already: nothing is to be done.`;
  }
  const proof = evidence ? `, for gate ${plain(evidence.gate, 60)} passed (event ${evidence.event})` : '';
  const from = previous ? `from version ${plain(previous, 20)} to ${to}` : `to version ${to}`;
  return `It would go ${from}${proof}, and endpoints that follow ${name} with it.`;
}

/** Say what a rollback would do. Pure. */
export function rolledBack({ alias, previous, version, ended }: Rollback): string {
  const [name, to] = [plain(alias, 60), plain(version, 20)];
  return ended.length
    ? `The rollout at ${plain(ended.join(', '))} would end, and ${name} stays at version ${to}.`
    : `It would go from version ${plain(previous, 20)} back to version ${to}, and endpoints that follow ${name} with it.`;
}

/** Say who moved an alias last, and why; nbmlops need not have been the last that did. Pure. */
export function moved(last: HistoryEntry | undefined, current: string | undefined, now = Date.now()): string {
  if (last === undefined || last.version !== current) {
    return 'It was moved there by another tool: who did, and why, is not known.';
  }
  const who = `${plain(last.actor, 60)}, ${ago(last.at, now)}, by ${plain(last.verb, 20)} from ${plain(last.surface, 20)}`;
  const why = last.reason ? `Why: ${plain(last.reason)}` : 'No reason was given.';
  return `It was moved there by ${who} (${plain(last.what, 120)}). ${why}`;
}

function Evidence({ children }: { readonly children: React.ReactNode }): JSX.Element {
  return (
    <section className="nbm-Evidence" aria-label="Evidence">
      {children}
    </section>
  );
}

interface ReportsProps {
  readonly reference: string;
  /** What is said where no report is a passed one. */
  readonly unproven?: (card: VersionCard) => React.ReactNode;
}

/** What gates found about exactly the bytes of a version. */
function Reports({ reference, unproven }: ReportsProps): JSX.Element {
  const answer = useAnswer('show', { what: reference }, ['ledger', 'runs']) as Answer<VersionCard>;
  return (
    <Answered answer={answer}>
      {card => (
        <>
          {card.reports.some(each => each.passed) || unproven?.(card)}
          {card.reports.map(report => (
            <Report key={report.gate} report={report} />
          ))}
        </>
      )}
    </Answered>
  );
}

interface UnprovenProps {
  readonly model: string;
  readonly gate?: string;
  /** Close the dialog in which this stands: then another one can open. */
  readonly close: () => void;
  readonly children: React.ReactNode;
}

/** That no gate has passed, and the step that is missing. */
function Unproven({ model, gate, close, children }: UnprovenProps): JSX.Element {
  const { actions, folder } = usePlace();
  const validate = (): void => {
    close();
    void actions.propose('validate', { model, ...(gate && { gate }) }, undefined, folder);
  };
  return (
    <div className="nbm-Problem" role="note" aria-label="No gate has passed">
      <p>{children}</p>
      <Button type="button" className="jp-mod-styled" onClick={validate}>
        Validate …
      </Button>
    </div>
  );
}

/** Say that no gate speaks for a version. Pure. */
export function unproven({ model, version, reports }: VersionCard): string {
  const judged = reports.length ? 'No gate has passed' : 'No gate has judged';
  return `${judged} version ${plain(version, 20)} of ${plain(model, 60)}.`;
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
