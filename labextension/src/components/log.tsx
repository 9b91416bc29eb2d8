/** What a job has printed, followed at its end unless the person has scrolled up. */

import * as React from 'react';

import { plain } from '../words';
import { Answered, useAnswer } from './answer';

export const LINES = 2000; // of the end that are shown
const LONGEST = 2000; // characters of one line
const NEAR_PX = 24; // from the end, within which a person is at it

export function Log({ job }: { readonly job: string }): JSX.Element {
  const answer = useAnswer('logs', { job, tail: LINES + 1 }, ['jobs', 'ledger']);
  return <Answered answer={answer}>{text => <Text text={text} />}</Answered>;
}

function Text({ text }: { readonly text: string }): JSX.Element {
  const node = React.useRef<HTMLPreElement>(null);
  const isAtEnd = React.useRef(true);
  const { shown, isCut } = React.useMemo(() => lastLines(text), [text]);
  React.useLayoutEffect(() => {
    if (node.current && isAtEnd.current) {
      node.current.scrollTop = node.current.scrollHeight;
    }
  }, [shown]);
  const look = (): void => {
    const { scrollHeight, scrollTop, clientHeight } = node.current as HTMLPreElement;
    isAtEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
  };
  return (
    <>
      {isCut && <p className="nbm-dim">The last {LINES.toLocaleString('en')} lines; `logs` tells all.</p>}
      {shown ? (
        <pre
          className="nbm-Text nbm-Log"
          ref={node}
          onScroll={look}
          tabIndex={0}
          role="log"
          aria-live="off"
          aria-label="Log"
        >
          {shown}
        </pre>
      ) : (
        <p className="nbm-dim">It has printed nothing yet.</p>
      )}
    </>
  );
}

/** The end of a log, fit to be shown: so many lines, each of bounded length. Pure. */
export function lastLines(text: string): { readonly shown: string; readonly isCut: boolean } {
  const lines = text.split('\n');
  const shown = lines.slice(-LINES).map(line => plain(line, LONGEST));
  return { shown: shown.join('\n'), isCut: lines.length > LINES };
}
