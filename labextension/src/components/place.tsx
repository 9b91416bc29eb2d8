/** Where a view stands: which project it shows, whether it is seen, and what it may ask and do. */

import { ReactWidget } from '@jupyterlab/ui-components';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { Message } from '@lumino/messaging';
import { Signal } from '@lumino/signaling';
import * as React from 'react';

import { Actions } from '../commands';
import { Model } from '../model';
import { Guard } from './guard';

/** What every view is given by where it stands. */
export interface Surroundings {
  readonly model: Model;
  readonly actions: Actions;
  readonly rendermime: IRenderMimeRegistry;
  /** The folder whose project is shown. */
  readonly folder: string;
  /** Whether a person can see the view now; one that is not seen asks nothing. */
  readonly isSeen: boolean;
}

const Place = React.createContext<Surroundings | null>(null);

/** Use what surrounds a view. */
export function usePlace(): Surroundings {
  const place = React.useContext(Place);
  if (place === null) {
    throw new Error('A view of nbmlops stands outside of its widget.');
  }
  return place;
}

/** Give surroundings to views; tests use it too. */
export const PlaceProvider = Place.Provider;

/** A widget of JupyterLab's that holds a view; without a folder of its own it goes where the person goes. */
export class ViewWidget extends ReactWidget {
  constructor(
    private readonly surroundings: Pick<Surroundings, 'model' | 'actions' | 'rendermime'>,
    private readonly view: React.FunctionComponent,
    private readonly ownFolder?: string
  ) {
    super();
    this.addClass('nbm-View');
  }

  protected render(): JSX.Element {
    return (
      <Shown {...this.surroundings} ownFolder={this.ownFolder} widget={this} seen={this.seen}>
        <this.view />
      </Shown>
    );
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.seen.emit();
  }

  protected onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.seen.emit();
  }

  private readonly seen = new Signal<this, void>(this);
}

interface ShownProps extends Pick<Surroundings, 'model' | 'actions' | 'rendermime'> {
  readonly ownFolder: string | undefined;
  readonly widget: ViewWidget;
  readonly seen: Signal<ViewWidget, void>;
  readonly children: React.ReactNode;
}

function Shown({ ownFolder, widget, seen, children, ...surroundings }: ShownProps): JSX.Element {
  const { model } = surroundings;
  useSignal(model.changed);
  const isSeen = useIsSeen(widget, seen);
  useMinutes(isSeen);
  const folder = ownFolder ?? model.folder;
  const root = useLastKnown(model.project(folder)?.root);
  return (
    <Standing {...surroundings} folder={folder} isSeen={isSeen}>
      <Guard key={root /* what was chosen in one project says nothing in another */}>{children}</Guard>
    </Standing>
  );
}

/** Have views stand where they are told to; the project there is watched for as long as they are seen. */
export function Standing({
  children,
  ...surroundings
}: Surroundings & { readonly children: React.ReactNode }): JSX.Element {
  const { model, folder, isSeen } = surroundings;
  useSignal(model.changed);
  React.useEffect(() => {
    const watching = isSeen ? model.view(folder) : undefined;
    return () => watching?.dispose();
  }, [model, folder, isSeen]);
  return <PlaceProvider value={surroundings}>{children}</PlaceProvider>;
}

/** The value, or while there is none the one before it. */
function useLastKnown<T>(value: T | undefined): T | undefined {
  const last = React.useRef(value);
  last.current = value ?? last.current;
  return last.current;
}

/** Render anew whenever a signal is emitted. */
export function useSignal(signal: { connect(slot: () => void): boolean; disconnect(slot: () => void): boolean }): void {
  const [, again] = React.useReducer((n: number) => n + 1, 0);
  React.useEffect(() => {
    signal.connect(again);
    return () => void signal.disconnect(again);
  }, [signal]);
}

/** Render anew every minute, for the words that say how long ago something was. */
function useMinutes(isSeen: boolean): void {
  const [, again] = React.useReducer((n: number) => n + 1, 0);
  React.useEffect(() => {
    const clock = isSeen ? window.setInterval(again, 60_000) : undefined;
    return () => window.clearInterval(clock);
  }, [isSeen]);
}

function useIsSeen(widget: ViewWidget, seen: Signal<ViewWidget, void>): boolean {
  useSignal(seen);
  const [isHidden, setHidden] = React.useState(document.hidden);
  React.useEffect(() => {
    const look = (): void => setHidden(document.hidden);
    document.addEventListener('visibilitychange', look);
    return () => document.removeEventListener('visibilitychange', look);
  }, []);
  return widget.isVisible && !isHidden;
}
