/** What a read verb answers, asked again whenever its stores change; and how a view shows that it has no answer. */

import { Button } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Arguments, Refusal } from '../client';
import { Change, Topic } from '../model';
import { repeated } from '../repeated';
import { Results, VerbName } from '../types';
import { plain } from '../words';
import { usePlace } from './place';

/** The newest answer, and what became of the newest question. */
export interface Answer<T> {
  readonly value: T | undefined;
  readonly error: Error | undefined;
}

/** Ask a read verb, and again when one of the topics changes; not while the view is not seen, nor where there is nothing to ask. */
export function useAnswer<V extends VerbName>(
  verb: V,
  args: Arguments | null,
  topics: readonly Topic[]
): Answer<Results[V]> {
  const { model, folder, isSeen } = usePlace();
  const root = model.project(folder)?.root;
  const question = JSON.stringify(args);
  const about = JSON.stringify([root, verb, question]);
  const nothing = { about, value: undefined, error: undefined };
  const [answer, setAnswer] = React.useState<Answer<Results[V]> & { readonly about: string }>(nothing);

  React.useEffect(() => {
    if (!isSeen || typeof root !== 'string' || question === 'null') {
      return undefined;
    }
    let isWanted = true;
    const asking = repeated(async () => {
      try {
        const value = await model.perform(verb, JSON.parse(question), folder);
        isWanted && setAnswer({ about, value, error: undefined });
      } catch (error) {
        isWanted && setAnswer(before => ({ ...(before.about === about ? before : nothing), error: error as Error }));
      }
    });
    const hear = (_: unknown, change: Change): void => {
      if (change.root === root && topics.some(topic => change.topics.has(topic))) {
        asking.again();
      }
    };
    model.told.connect(hear);
    asking.again();
    return () => {
      isWanted = false;
      model.told.disconnect(hear);
      asking.end();
    };
  }, [model, folder, isSeen, about]);
  return answer.about === about ? answer : nothing; // an answer about another project or model is none
}

interface AnsweredProps<T> {
  readonly answer: Answer<T>;
  readonly children: (value: T) => React.ReactNode;
}

/** Show an answer; while there is none: that it is asked for, or what went wrong. */
export function Answered<T>({ answer, children }: AnsweredProps<T>): JSX.Element {
  const { value, error } = answer;
  return (
    <>
      {error && <Problem error={error} isStale={value !== undefined} />}
      {value !== undefined ? children(value) : !error && <Loading />}
    </>
  );
}

export function Loading(): JSX.Element {
  return (
    <div className="nbm-Loading" role="status" aria-label="Loading">
      <span className="nbm-Loading-bar" />
      <span className="nbm-Loading-bar" />
      <span className="nbm-Loading-bar" />
    </div>
  );
}

interface ProblemProps {
  readonly error: Error;
  /** What to do where there was no answer at all. */
  readonly unanswered?: string;
  readonly isStale?: boolean;
}

/** An error: what happened, and what to do. */
export function Problem({ error, unanswered = 'It is asked again.', isStale = false }: ProblemProps): JSX.Element {
  const [title, hint] = error instanceof Refusal ? [error.name, error.failure.hint] : ['No answer', unanswered];
  return (
    <div className="nbm-Problem" role="alert">
      <strong>{plain(title, 60)}</strong>
      <p>{plain(error.message, 2000)}</p>
      {hint && <p className="nbm-Problem-hint">{plain(hint, 2000)}</p>}
      {isStale && <p className="nbm-dim">What is shown below is older.</p>}
    </div>
  );
}

interface EmptyProps {
  readonly children: React.ReactNode;
  /** The one next step, and its words. */
  readonly step?: () => void;
  readonly label?: string;
}

/** Nothing there yet, and the one next step. */
export function Empty({ children, step, label }: EmptyProps): JSX.Element {
  return (
    <div className="nbm-Empty">
      <p>{children}</p>
      {step && (
        <Button className="jp-mod-styled" onClick={step}>
          {label}
        </Button>
      )}
    </div>
  );
}
