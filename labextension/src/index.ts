/** Wires the sidebar, its pages and its commands to JupyterLab; decides nothing. */

import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, WidgetTracker } from '@jupyterlab/apputils';
import { PathExt } from '@jupyterlab/coreutils';
import { IDefaultFileBrowser } from '@jupyterlab/filebrowser';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { Contents } from '@jupyterlab/services';
import { ISettingRegistry } from '@jupyterlab/settingregistry';

import { Client } from './client';
import { Actions, addCommands, addVerbs } from './commands';
import { Model } from './model';
import { keyOf, Page } from './pages';
import { SidebarPanel } from './panel';
import { COMM, Command, IModelToken, PLUGIN, Subject, View, VIEWS } from './tokens';

const plugin: JupyterFrontEndPlugin<Model> = {
  id: PLUGIN,
  description: 'The life of models beside the notebooks that make them.',
  autoStart: true,
  provides: IModelToken,
  requires: [IRenderMimeRegistry],
  optional: [ISettingRegistry, ILayoutRestorer, ICommandPalette, INotebookTracker, IDefaultFileBrowser],
  activate
};

export default plugin;

function activate(
  app: JupyterFrontEnd,
  rendermime: IRenderMimeRegistry,
  settings: ISettingRegistry | null,
  restorer: ILayoutRestorer | null,
  palette: ICommandPalette | null,
  notebooks: INotebookTracker | null,
  browser: IDefaultFileBrowser | null
): Model {
  const model = new Model(new Client(app.serviceManager.serverSettings), app.serviceManager.events.stream);
  const pages = new WidgetTracker<Page>({ namespace: 'nbmlops-pages' });
  const makePage = (subject: Subject, folder: string): Page => {
    const known = pages.find(page => page.key === keyOf(subject, folder));
    const page = known ?? new Page({ model, actions, rendermime }, subject, folder);
    known ?? void pages.add(page);
    return page;
  };
  const showView = (view: View): void => {
    app.shell.activateById(panel.id);
    panel.showSection(view);
  };
  const actions = new Actions(model, { app, rendermime, notebooks, showView, makePage });
  const panel = new SidebarPanel({ model, actions, rendermime });
  panel.setSections(VIEWS);

  addCommands(app, actions, model);
  addVerbs(app, actions, palette);
  app.shell.add(panel, 'left', { rank: 550 });
  restorer?.add(panel, panel.id);
  void restorer?.restore(pages, {
    command: Command.page,
    args: page => ({ ...page.subject, names: [...page.subject.names], folder: page.folder }),
    name: page => page.key
  });
  void settings?.load(PLUGIN).then(loaded => {
    const apply = (): void => {
      model.setRefresh(loaded.get('refresh').composite as number);
      actions.defaultAlias = loaded.get('defaultAlias').composite as string;
      panel.setSections(loaded.get('panels').composite as View[]);
    };
    loaded.changed.connect(apply);
    apply();
  });
  follow(model, app.serviceManager.contents, notebooks, browser);
  notebooks?.widgetAdded.connect((_, notebook) => listen(notebook, actions));
  notebooks && markTracked(app, notebooks);
  return model;
}

/** Go where the person is: to the notebook's folder, else to that of the file browser. */
function follow(
  model: Model,
  contents: Contents.IManager,
  notebooks: INotebookTracker | null,
  browser: IDefaultFileBrowser | null
): void {
  const look = (): void => {
    const notebook = contents.localPath(notebooks?.currentWidget?.context.path ?? '');
    model.go(notebook ? PathExt.dirname(notebook) : contents.localPath(browser?.model.path ?? ''), notebook);
  };
  notebooks?.currentChanged.connect(look);
  notebooks?.widgetAdded.connect((_, notebook) => void notebook.context.pathChanged.connect(look));
  browser?.model.pathChanged.connect(look);
  look();
}

/** Let a notebook's kernel open the sidebar: `%mlops ui`. */
function listen(notebook: NotebookPanel, actions: Actions): void {
  notebook.sessionContext.kernelChanged.connect((_, { newValue: kernel }) => {
    kernel?.registerCommTarget(COMM, (comm, message) => {
      const view = VIEWS.find(each => each === message.content.data.view);
      actions.openView(view ?? 'runs');
      comm.dispose();
    });
  });
}

/** Have the button "Track" stand as the active cell does. */
function markTracked({ commands }: JupyterFrontEnd, notebooks: INotebookTracker): void {
  const mark = (): void => commands.notifyCommandChanged(Command.trackCell);
  notebooks.activeCellChanged.connect((_, cell) => {
    cell?.model.contentChanged.connect(mark);
    mark();
  });
}
