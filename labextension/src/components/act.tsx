/** A small button that proposes something, or opens it. */

import { Button } from '@jupyterlab/ui-components';
import * as React from 'react';

import { plain } from '../words';

interface ActProps {
  readonly words: string;
  /** What it is about, for those who hear the button alone. */
  readonly about: string;
  readonly act: () => unknown;
}

export function Act({ words, about, act }: ActProps): JSX.Element {
  return (
    <Button className="jp-mod-styled nbm-Act" aria-label={`${words} (${plain(about, 100)})`} onClick={() => void act()}>
      {words}
    </Button>
  );
}
