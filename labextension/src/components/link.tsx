/** A name that opens its page in the main area. */

import * as React from 'react';

import { PageKind } from '../tokens';
import { plain } from '../words';
import { usePlace } from './place';

interface PageLinkProps {
  readonly kind: PageKind;
  readonly name: string;
  /** What is to be read where that is not the name itself. */
  readonly words?: string;
}

export function PageLink({ kind, name, words = name }: PageLinkProps): JSX.Element {
  const { actions, folder } = usePlace();
  return (
    <button className="nbm-Link" title={plain(words)} onClick={() => actions.openPage({ kind, names: [name] }, folder)}>
      {plain(words, 100)}
    </button>
  );
}

/** A run by the beginning of its id; nothing where there is none. */
export function RunLink({ id }: { readonly id: string }): JSX.Element {
  return <>{id && <PageLink kind="run" name={id} words={id.slice(0, 8)} />}</>;
}
