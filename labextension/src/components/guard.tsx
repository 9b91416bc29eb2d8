/** A view that fails takes none of the others along, and says so. */

import { Button } from '@jupyterlab/ui-components';
import * as React from 'react';

interface GuardState {
  readonly error: Error | undefined;
}

/** Show what is inside, or that it has failed, with a way to try again. */
export class Guard extends React.Component<{ readonly children: React.ReactNode }, GuardState> {
  static getDerivedStateFromError(error: Error): GuardState {
    return { error };
  }

  state: GuardState = { error: undefined };

  render(): React.ReactNode {
    if (this.state.error === undefined) {
      return this.props.children;
    }
    return (
      <div className="nbm-Problem" role="alert">
        <strong>This view has failed</strong>
        <p>It is a bug in nbmlops; the console of the browser tells more. Nothing was changed by it.</p>
        <Button className="jp-mod-styled" onClick={() => this.setState({ error: undefined })}>
          Try again
        </Button>
      </div>
    );
  }
}
