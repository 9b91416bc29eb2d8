/** What is about to be done: its form, the line it stands for, the evidence for it; done only when a person says so. */

import { Button } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Arguments, Refusal } from '../client';
import { line } from '../line';
import { VerbSchema } from '../types';
import { isOneLine, plain } from '../words';
import { Problem } from './answer';
import { Card } from './card';
import { Form, missing } from './form';
import { useKnown } from './known';

/** What speaks for a call or against it; as a function it follows what is typed, and can close the dialog. */
export type Evidence = React.ReactNode | ((args: Arguments, close: () => void) => React.ReactNode);

export interface ProposalProps {
  readonly schema: VerbSchema;
  readonly args: Arguments;
  /** What speaks for it or against it. */
  readonly evidence?: Evidence;
  readonly perform: (args: Arguments) => Promise<unknown>;
  /** Put the line into the notebook; undefined where none is open. */
  readonly insert?: (line: string) => void;
  readonly close: () => void;
}

const MOST = 2000; // characters of a line that are shown

type State =
  | { readonly is: 'open' | 'busy' }
  | { readonly is: 'done'; readonly result: unknown }
  | { readonly is: 'refused'; readonly error: Error };

/** Whether a verb can be performed over HTTP: what acts on a Python process is for a notebook alone. Pure. */
export function isRemote(schema: VerbSchema): boolean {
  return schema.effect !== 'session';
}

/** A verb to be performed, or put into the notebook. */
export function Proposal({ schema, evidence, perform, insert, close, ...given }: ProposalProps): JSX.Element {
  const [args, setArgs] = React.useState(given.args);
  const [state, setState] = React.useState<State>({ is: 'open' });
  const known = useKnown(schema);
  const lacks = missing(schema, args);
  const told = line(schema, args);
  const isBusy = state.is === 'busy';

  const act = async (chosen: Arguments): Promise<void> => {
    setState({ is: 'busy' });
    try {
      setState({ is: 'done', result: await perform(chosen) });
    } catch (error) {
      setState({ is: 'refused', error: error as Error });
    }
  };
  const submit = (event: React.FormEvent): void => {
    event.preventDefault();
    if (isRemote(schema) && !lacks.length && !isBusy) {
      void act(args);
    }
  };

  return (
    <form className="nbm-Proposal" onSubmit={submit} aria-busy={isBusy} aria-label={schema.summary}>
      <p>{schema.summary}</p>
      {typeof evidence === 'function' ? evidence(args, close) : evidence}
      <Form schema={schema} args={args} onChange={setArgs} known={known} />
      <div className="nbm-Line" role="group" aria-label="The line that this stands for">
        <code>{plain(told, MOST)}</code>
      </div>
      {insert && !isOneLine(told) && (
        <p className="nbm-dim">It holds a line’s end or a sign that nobody sees, and so cannot stand in a notebook.</p>
      )}
      {lacks.length > 0 && <p className="nbm-dim">Needed: {lacks.join(', ').replace(/_/g, ' ')}</p>}
      {(state.is === 'refused' || state.is === 'done') && (
        <Outcome>{state.is === 'done' ? <Done result={state.result} /> : <Refused error={state.error} />}</Outcome>
      )}
      <div className="nbm-Buttons">
        {insert && isOneLine(told) && (
          <Button
            type="button"
            className="jp-mod-styled"
            onClick={() => {
              insert(told);
              close();
            }}
          >
            Insert into notebook
          </Button>
        )}
        {isRemote(schema) && 'dry_run' in schema.arguments.properties && (
          <Button
            type="button"
            className="jp-mod-styled"
            disabled={isBusy || lacks.length > 0}
            onClick={() => void act({ ...args, dry_run: true })}
          >
            Try without changing anything
          </Button>
        )}
        {isRemote(schema) && (
          <Button type="submit" className="jp-mod-styled jp-mod-accept" disabled={isBusy || lacks.length > 0}>
            {isBusy ? 'Working …' : verbWord(schema)}
          </Button>
        )}
      </div>
    </form>
  );
}

/** How it went, which takes the focus: the button that had it was of no use meanwhile, and so has lost it. */
function Outcome({ children }: { readonly children: React.ReactNode }): JSX.Element {
  const node = React.useRef<HTMLDivElement>(null);
  React.useEffect(() => node.current?.focus(), []);
  return (
    <div className="nbm-Outcome" ref={node} tabIndex={-1}>
      {children}
    </div>
  );
}

/** What was found when the answer is no, a gate's report for instance, stands below the words. */
function Refused({ error }: { readonly error: Error }): JSX.Element {
  const report = error instanceof Refusal ? error.failure.report : undefined;
  return (
    <>
      <Problem error={error} unanswered="Nobody can say whether it was done: look before you do it again." />
      {report !== undefined && report !== null && <Card result={report} />}
    </>
  );
}

function Done({ result }: { readonly result: unknown }): JSX.Element {
  return (
    <div className="nbm-Done" role="status">
      <strong>Done</strong>
      <Card result={result} />
    </div>
  );
}

function verbWord({ name, effect }: VerbSchema): string {
  return effect === 'read' ? 'Show' : name.charAt(0).toUpperCase() + name.slice(1);
}
