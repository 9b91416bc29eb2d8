/** A long listing, asked for page by page as it comes into view. */

import * as React from 'react';

import { Arguments } from '../client';
import { Change, Topic } from '../model';
import { repeated } from '../repeated';
import { Run } from '../types';
import { usePlace } from './place';

export const PAGE = 50;

/** Runs as far as they are known. */
export interface Paged {
  /** How many there are as far as is known; one page more than those asked for, until the end is seen. */
  readonly n: number;
  readonly at: (place: number) => Run | undefined;
  readonly isKnown: boolean;
  readonly error: Error | undefined;
  readonly onView: (from: number, to: number) => void;
}

type Pages = ReadonlyMap<number, readonly Run[]>;

/** List runs page by page; those in view are asked for anew when a topic changes, the others when they are seen. */
export function usePagedRuns(args: Arguments, topics: readonly Topic[]): Paged {
  const { model, folder, isSeen } = usePlace();
  const root = model.project(folder)?.root;
  const question = JSON.stringify([folder, root, args]);
  const [pages, setPages] = React.useState<Pages>(new Map());
  const [error, setError] = React.useState<Error>();
  const view = React.useRef<readonly [number, number]>([0, 1]); // the pages in view
  const asked = React.useRef(new Set<number>());
  const current = React.useRef(question);

  const ask = React.useCallback(
    async (page: number): Promise<void> => {
      asked.current.add(page);
      try {
        const rows = await model.perform('runs', { ...args, limit: PAGE, offset: page * PAGE }, folder);
        if (current.current === question) {
          setPages(before => new Map(before).set(page, rows));
          setError(undefined);
        }
      } catch (problem) {
        asked.current.delete(page);
        current.current === question && setError(problem as Error);
      }
    },
    [model, question]
  );
  const askInView = React.useCallback((): Promise<unknown> => {
    const [first, last] = view.current;
    const inView = Array.from({ length: last - first }, (_, n) => first + n);
    return Promise.all(inView.filter(page => !asked.current.has(page)).map(ask));
  }, [ask]);
  const onView = React.useCallback(
    (from: number, to: number): void => {
      view.current = [Math.floor(from / PAGE), Math.max(1, Math.ceil(to / PAGE))];
      isSeen && typeof root === 'string' && void askInView();
    },
    [askInView, isSeen, root]
  );

  React.useEffect(() => {
    if (current.current !== question) {
      current.current = question;
      setPages(new Map());
    }
    if (!isSeen || typeof root !== 'string') {
      return undefined;
    }
    const asking = repeated(async () => {
      asked.current = new Set();
      await askInView();
    });
    const hear = (_: unknown, change: Change): void => {
      change.root === root && topics.some(topic => change.topics.has(topic)) && asking.again();
    };
    asking.again();
    model.told.connect(hear);
    return () => {
      asking.end();
      model.told.disconnect(hear);
    };
  }, [model, question, isSeen, root]);

  return { ...known(pages), isKnown: pages.size > 0, error, onView };
}

/** What is known of the whole listing. Pure. */
export function known(pages: Pages): Pick<Paged, 'n' | 'at'> {
  const last = Math.max(-1, ...pages.keys());
  const rows = pages.get(last)?.length ?? 0;
  const isEnd = rows < PAGE;
  return {
    n: last < 0 ? 0 : last * PAGE + rows + (isEnd ? 0 : PAGE),
    at: place => pages.get(Math.floor(place / PAGE))?.[place % PAGE]
  };
}
