/** The only file that acts: every verb as a command, and what a person sees before it is performed. */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, ICommandPalette, MainAreaWidget, Notification } from '@jupyterlab/apputils';
import { PathExt } from '@jupyterlab/coreutils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ReactWidget } from '@jupyterlab/ui-components';
import { ReadonlyJSONObject } from '@lumino/coreutils';
import * as React from 'react';

import { Arguments } from './client';
import { Standing } from './components/place';
import { Evidence, Proposal } from './components/proposal';
import { Model } from './model';
import { Command, PAGES, Subject, View, VIEWS } from './tokens';
import { VerbName, VerbSchema } from './types';
import { VERBS } from './verbs';
import { isOneLine, plain } from './words';

const CATEGORY = 'MLOps';
const TRACK = '%%mlops track';

type SharedCell = NonNullable<INotebookTracker['activeCell']>['model']['sharedModel'];

/** What the person may see and change besides the verbs: JupyterLab's own parts. */
export interface Surface {
  readonly app: JupyterFrontEnd;
  readonly rendermime: IRenderMimeRegistry;
  readonly notebooks: INotebookTracker | null;
  readonly showView: (view: View) => void;
  readonly makePage: (subject: Subject, folder: string) => MainAreaWidget;
}

/** What views let a person do. */
export class Actions {
  /** The alias that is meant where a view proposes to move one. */
  defaultAlias = 'champion';

  constructor(
    private readonly model: Model,
    private readonly surface: Surface
  ) {}

  /** Show a section of the sidebar. */
  openView(view: View): void {
    this.surface.showView(view);
  }

  /** Show a page in the main area; one that is open comes to the front. */
  openPage(subject: Subject, folder = this.model.folder): void {
    const { shell } = this.surface.app;
    const page = this.surface.makePage(subject, folder);
    for (const area of ['main', 'right']) {
      page.isAttached || shell.add(page, area); // the main area of Jupyter Notebook has room for its notebook alone
    }
    shell.activateById(page.id);
  }

  /** Open a file of the project in JupyterLab, by its path below the server's root. */
  openFile(path: string): void {
    void this.surface.app.commands.execute('docmanager:open', { path });
  }

  /**
   * Show what a verb is about to do, and perform it if the person says so. A command never does more than this, so
   * that nothing which can run commands, such as a link in a notebook's output, can do anything by itself.
   */
  async propose(verb: VerbName, args: Arguments = {}, evidence?: Evidence, folder?: string): Promise<void> {
    const where = folder ?? this.model.folder; // which may be another when the server has answered
    const schema = await this.schema(verb);
    if (schema === undefined) {
      return;
    }
    const dialog: ProposalDialog = new ProposalDialog({
      title: `%mlops ${schema.name}`,
      body: ReactWidget.create(
        <Standing rendermime={this.surface.rendermime} model={this.model} actions={this} folder={where} isSeen>
          <Proposal
            schema={schema}
            args={'detach' in schema.arguments.properties ? { detach: true, ...args } : args}
            evidence={evidence}
            perform={given => this.model.perform(verb, given, where)}
            insert={this.notebook ? line => this.insert(line) : undefined}
            close={() => dialog.reject()}
          />
        </Standing>
      ),
      buttons: [Dialog.cancelButton({ label: 'Close' })],
      focusNodeSelector: '.nbm-Form input, .nbm-Form select, .nbm-Buttons button',
      hasClose: true
    });
    dialog.addClass('nbm-Dialog');
    await dialog.launch();
  }

  /** A verb's schema; undefined, and the reason is told, where the server has none. */
  private async schema(verb: VerbName): Promise<VerbSchema | undefined> {
    try {
      const found = (await this.model.verbs()).find(each => each.name === verb);
      found ?? Notification.error(`This server's nbmlops has no verb ${plain(verb)}.`);
      return found;
    } catch (error) {
      Notification.error(plain((error as Error).message, 500));
      return undefined;
    }
  }

  /** The arguments of a verb, as JSON Schema. */
  async describe(verb: VerbName): Promise<ReadonlyJSONObject> {
    const schema = (await this.model.verbs()).find(each => each.name === verb);
    return (schema?.arguments ?? { type: 'object' }) as unknown as ReadonlyJSONObject;
  }

  /** Put a line into a new cell below the active one; what would be more there than one line that is seen is not put. */
  insert(line: string): void {
    const { commands } = this.surface.app;
    const notebook = this.notebook;
    if (notebook && isOneLine(line)) {
      void commands.execute('notebook:insert-cell-below').then(() => {
        notebook.content.activeCell?.model.sharedModel.setSource(line);
      });
    }
  }

  /** Have the active cell tracked as a run, or no longer. */
  trackCell(): void {
    const cell = this.codeCell;
    if (cell) {
      const source = cell.getSource();
      const line = `${TRACK} ${nameOf(this.model.notebook)}`.trim();
      cell.setSource(isTracked(source) ? source.replace(/^.*\n?/, '') : `${line}\n${source}`);
    }
  }

  /** Whether there is a cell that can be tracked. */
  get isCellCode(): boolean {
    return this.codeCell !== undefined;
  }

  /** Whether the active cell is tracked as a run. */
  get isCellTracked(): boolean {
    return isTracked(this.codeCell?.getSource() ?? '');
  }

  /** Propose to run the notebook that is open, as it is saved now. */
  async runHeadless(): Promise<void> {
    const notebook = this.notebook;
    if (notebook) {
      await notebook.context.save();
      const { folder } = this.model;
      await this.propose('run', { what: PathExt.basename(notebook.context.path) }, undefined, folder);
    }
  }

  private get codeCell(): SharedCell | undefined {
    const cell = this.notebook?.content.activeCell?.model;
    return cell?.type === 'code' ? cell.sharedModel : undefined;
  }

  private get notebook(): INotebookTracker['currentWidget'] {
    return this.surface.notebooks?.currentWidget ?? null;
  }
}

/** A dialog in whose body the key Enter belongs to the body's own buttons and fields. */
class ProposalDialog extends Dialog<unknown> {
  handleEvent(event: Event): void {
    const isInside = (event.target as HTMLElement | null)?.closest?.('.nbm-Proposal');
    if (!(event instanceof KeyboardEvent && event.key === 'Enter' && isInside)) {
      super.handleEvent(event);
    }
  }
}

/** Add the commands that are no verbs. */
export function addCommands(app: JupyterFrontEnd, actions: Actions, model: Model): void {
  const { commands } = app;
  commands.addCommand(Command.open, {
    label: args => (args.view ? `Show ${String(args.view)}` : 'Show the MLOps sidebar'),
    describedBy: { args: object({ view: { type: 'string', enum: [...VIEWS] } }) },
    execute: args => actions.openView(VIEWS.find(each => each === args.view) ?? 'runs')
  });
  commands.addCommand(Command.page, {
    label: 'Open a page of MLOps',
    describedBy: {
      args: object({
        kind: { type: 'string', enum: [...PAGES] },
        names: { type: 'array', items: { type: 'string' } },
        folder: { type: 'string' }
      })
    },
    execute: args => {
      const kind = PAGES.find(each => each === args.kind);
      if (kind) {
        const names = Array.isArray(args.names) ? args.names.map(String) : [];
        actions.openPage({ kind, names }, String(args.folder ?? model.folder));
      }
    }
  });
  commands.addCommand(Command.refresh, {
    label: 'Refresh the MLOps sidebar',
    describedBy: { args: object({}) },
    execute: () => model.refresh()
  });
  commands.addCommand(Command.trackCell, {
    label: 'Track',
    caption: 'Track the active cell as a run (%%mlops track)',
    isEnabled: () => actions.isCellCode,
    isToggled: () => actions.isCellTracked,
    describedBy: { args: object({}) },
    execute: () => actions.trackCell()
  });
  commands.addCommand(Command.runHeadless, {
    label: 'Run headless',
    caption: 'Save this notebook, and run it with parameters (%mlops run)',
    isEnabled: () => model.notebook !== '',
    describedBy: { args: object({}) },
    execute: () => actions.runHeadless()
  });
}

/** Add a command for every verb, found by the palette and described by the verb's schema. */
export function addVerbs(app: JupyterFrontEnd, actions: Actions, palette: ICommandPalette | null): void {
  for (const verb of VERBS) {
    const command = Command.verb(verb.name);
    app.commands.addCommand(command, {
      label: `%mlops ${verb.name} …`,
      caption: verb.summary,
      describedBy: async () => ({ args: await actions.describe(verb.name) }),
      execute: args => actions.propose(verb.name, args as Arguments)
    });
    palette?.addItem({ command, category: CATEGORY });
  }
  for (const command of [Command.open, Command.refresh, Command.trackCell, Command.runHeadless]) {
    palette?.addItem({ command, category: CATEGORY });
  }
}

/** Name runs after their notebook: in letters, digits and signs that a line keeps as one word; empty if none is left. Pure. */
export function nameOf(notebook: string): string {
  return PathExt.basename(notebook, '.ipynb')
    .replace(/[^\p{L}\p{N}_.-]+/gu, '-')
    .replace(/^-+/, '');
}

function isTracked(source: string): boolean {
  return source.startsWith(TRACK);
}

function object(properties: ReadonlyJSONObject): ReadonlyJSONObject {
  return { type: 'object', properties, additionalProperties: false };
}
