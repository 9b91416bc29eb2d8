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
  const [answer, setAnswer] = React.useState<Answer<Results[V]>>({ value: undefined, error: undefined });
  const question = JSON.stringify(args);

  React.useEffect(() => {
    if (!isSeen || typeof root !== 'string' || question === 'null') {
      return undefined;
    }
    let isWanted = true;
    const asking = repeated(async () => {
      try {
        const value = await model.perform(verb, JSON.parse(question), folder);
        isWanted && setAnswer({ value, error: undefined });
      } catch (error) {
        isWanted && setAnswer(({ value }) => ({ value, error: error as Error }));
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
  }, [model, folder, root, isSeen, verb, question]);
  return answer;
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

/** An error: what happened, and what to do. */
export function Problem({
  error,
  isStale = false
}: {
  readonly error: Error;
  readonly isStale?: boolean;
}): JSX.Element {
  const hint = error instanceof Refusal ? error.failure.hint : '';
  return (
    <div className="nbm-Problem" role="alert">
      <strong>{error instanceof Refusal ? plain(error.name, 60) : 'No answer'}</strong>
      <p>
        {error instanceof Refusal
          ? plain(error.message, 2000)
          : 'The Jupyter server does not answer; it is asked again.'}
      </p>
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
